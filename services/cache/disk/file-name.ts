/** Where an object lies: a path that follows from the key and the directory's secret alone. */
import path from 'node:path';
import type { Digest } from '../digest.ts';

/** 256 folders by the first byte: made once at start, so no request has to make one. */
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

/** The digest that a file is named after, or undefined for a file that is not ours. */
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
