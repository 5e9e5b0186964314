/** Paths of object files. A path depends only on the key and on the secret of the directory. */
import path from 'node:path';
import type { Digest } from '../digest.ts';

/** One folder for each first byte. A start creates all of them, so that no request has to. */
export const folderCount = 256;
const fileNamePattern = /^[0-9a-f]{24}$/;

/** 24 hexadecimal digits. */
export function fileName({ a, b, c }: Digest): string {
  return word(a) + word(b) + word(c);
}

export function objectPath(directory: string, digest: Digest): string {
  const name = fileName(digest);
  return `${directory}/objects/${name.slice(0, 2)}/${name}`;
}

/** Returns the digest in a file name, or undefined if the file is not an object. */
export function parseFileName(name: string): Digest | undefined {
  if (!fileNamePattern.test(name)) return undefined;
  return { a: Number.parseInt(name.slice(0, 8), 16), b: Number.parseInt(name.slice(8, 16), 16), c: Number.parseInt(name.slice(16), 16) };
}

export function folderName(number: number): string {
  return number.toString(16).padStart(2, '0');
}

export function objectsFolder(directory: string): string {
  return path.join(directory, 'objects');
}

export function temporaryFolder(directory: string): string {
  return path.join(directory, 'temporary');
}

function word(value: number): string {
  return value.toString(16).padStart(8, '0');
}
