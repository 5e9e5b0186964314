/** Reads and damages the files in the directory of a shard. */
import { readdirSync, statSync } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { digestOf } from '../../../services/cache/digest.ts';
import { objectPath } from '../../../services/cache/disk/file-name.ts';
import type { Key } from '../../../services/shared/key.ts';

/** The path of the file of a key. */
export async function fileOf(directory: string, key: string): Promise<string> {
  const { secret } = JSON.parse(await readFile(path.join(directory, 'kura-cache.json'), 'utf8')) as { secret: string };
  return objectPath(directory, digestOf(secret, key as Key));
}

/** Flips one bit of a file. */
export async function flipBit(file: string, offset: number): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, offset);
    byte[0] = (byte[0] as number) ^ 4;
    await handle.write(byte, 0, 1, offset);
  } finally {
    await handle.close();
  }
}

async function objectFiles(directory: string): Promise<string[]> {
  const files: string[] = [];
  for (const folder of await readdir(path.join(directory, 'objects'))) {
    for (const name of await readdir(path.join(directory, 'objects', folder))) files.push(path.join(directory, 'objects', folder, name));
  }
  return files;
}

/** Bytes that object files take, each rounded up to 4 KiB. */
export async function storedBytes(directory: string): Promise<number> {
  let bytes = 0;
  for (const file of await objectFiles(directory)) bytes += Math.ceil((await stat(file)).size / 4096) * 4096;
  return bytes;
}

/** Bytes of all files and folders in 4 KiB blocks. It is synchronous, so that this process changes nothing meanwhile. */
export function directoryBytes(directory: string): number {
  let bytes = Math.ceil(statSync(directory).size / 4096) * 4096;
  for (const entry of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const entryStat = statSync(path.join(directory, entry), { throwIfNoEntry: false });
    bytes += Math.ceil((entryStat?.size ?? 0) / 4096) * 4096;
  }
  return bytes;
}
