/**
 * The cursor of a list of keys: a file name, and a signature over it and the prefix. A cursor of another prefix or another directory is
 * invalid. It stays valid after a restart and after the removal of its object.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Digest } from '../digest.ts';
import { fileName, parseFileName } from '../disk/file-name.ts';

const nameBytes = 12;
const signatureBytes = 12;

interface Signed {
  /** The secret of the directory. */
  readonly secret: string;
  readonly prefix: string;
}

export function encodeCursor(digest: Digest, signed: Signed): string {
  const name = Buffer.from(fileName(digest), 'hex');
  return Buffer.concat([name, signatureOf(name, signed)]).toString('base64url');
}

/** Returns undefined for a cursor that is not of this directory and prefix. */
export function decodeCursor(text: string, signed: Signed): Digest | undefined {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.length !== nameBytes + signatureBytes || bytes.toString('base64url') !== text) return undefined;
  const name = bytes.subarray(0, nameBytes);
  if (!timingSafeEqual(bytes.subarray(nameBytes), signatureOf(name, signed))) return undefined;
  return parseFileName(name.toString('hex'));
}

function signatureOf(name: Buffer, { secret, prefix }: Signed): Buffer {
  return createHmac('sha256', secret).update('cursor').update(name).update(prefix, 'latin1').digest().subarray(0, signatureBytes);
}
