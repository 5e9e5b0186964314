/** The hash of a key. It names the file of an object and locates its row in the index. */
import { hash } from 'node:crypto';
import type { Key } from '../shared/key.ts';

/** The first 96 bits of SHA-256(secret + key), as three 32-bit words. */
export interface Digest {
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

/** `secret` belongs to the directory. Without it, a client could search for two keys with the same file name. */
export function digestOf(secret: string, key: Key): Digest {
  const sum = hash('sha256', secret + key, 'buffer');
  return { a: sum.readUInt32BE(0), b: sum.readUInt32BE(4), c: sum.readUInt32BE(8) };
}
