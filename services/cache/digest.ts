/** The hash by which a shard knows a key: it names the object's file and finds its row in the index. */
import { hash } from 'node:crypto';
import type { Key } from '../shared/key.ts';

/** 96 bits of SHA-256(secret + key), as three words. */
export interface Digest {
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

/** The digest of a key in the directory that owns `secret`. Without the secret a client could search for two keys that share a file. */
export function digestOf(secret: string, key: Key): Digest {
  const sum = hash('sha256', secret + key, 'buffer');
  return { a: sum.readUInt32BE(0), b: sum.readUInt32BE(4), c: sum.readUInt32BE(8) };
}
