/** File names, which need not be UTF-8. */
import { isUtf8 } from 'node:buffer';
import path from 'node:path';

/** A string if the name is UTF-8, otherwise its bytes. The functions of node:fs take both. */
export type FileName = string | Buffer;

export function fileName(bytes: Buffer): FileName {
  return isUtf8(bytes) ? bytes.toString() : bytes;
}

/** Joins two names by a slash. */
export function joinNames(folder: FileName, name: FileName): FileName {
  if (folder === '') return name;
  return typeof folder === 'string' && typeof name === 'string' ? `${folder}/${name}` : withSuffix(withSuffix(folder, '/'), name);
}

export function withSuffix(name: FileName, suffix: FileName): FileName {
  return typeof name === 'string' && typeof suffix === 'string' ? name + suffix : Buffer.concat([Buffer.from(name), Buffer.from(suffix)]);
}

/** The last part of a name. */
export function baseName(name: FileName): FileName {
  if (typeof name === 'string') return path.basename(name);
  return fileName(name.subarray(name.lastIndexOf('/') + 1));
}

/** Like path.resolve of one name. */
export function resolveName(folder: string, name: FileName): FileName {
  if (typeof name === 'string') return path.resolve(folder, name);
  return name[0] === '/'.charCodeAt(0) ? name : joinNames(folder, name);
}
