/** Looks at every file of the directory once after a start, while requests are served. */
import { lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Digest } from '../digest.ts';
import { folderCount, folderName, objectsFolder, parseFileName } from '../disk/file-name.ts';

/** Work between two looks at the sockets: a cold lstat takes 7 µs, so some hundred files. */
const sliceMs = 4;

interface ScanOptions {
  readonly directory: string;
  readonly signal: AbortSignal;
  /** True when nothing needs to be asked about the file: it is known already, or being changed. */
  readonly isKnown: (digest: Digest, name: string) => boolean;
  readonly onObject: (digest: Digest, sizeBytes: number, modifiedAtMs: number) => void;
  /** A file that is not ours; it is left alone. */
  readonly onForeign: (file: string) => void;
  readonly onError: (error: unknown) => void;
  readonly onFolder?: (number: number) => void;
}

/** Resolves when all folders were read. A folder that cannot be read is told to `onError` and passed over. */
export async function scanObjects(options: ScanOptions): Promise<void> {
  for (let number = 0; number < folderCount && !options.signal.aborted; number += 1) {
    const folder = path.join(objectsFolder(options.directory), folderName(number));
    try {
      await scanFolder(options, folder, folderName(number));
    } catch (error) {
      options.onError(error);
    }
    options.onFolder?.(number);
  }
}

async function scanFolder(options: ScanOptions, folder: string, prefix: string): Promise<void> {
  let sliceEnd = performance.now() + sliceMs;
  for (const name of await readdir(folder)) {
    if (performance.now() > sliceEnd) {
      await nextTurn();
      if (options.signal.aborted) return;
      sliceEnd = performance.now() + sliceMs;
    }
    const digest = name.startsWith(prefix) ? parseFileName(name) : undefined;
    if (digest === undefined) {
      options.onForeign(path.join(folder, name));
      continue;
    }
    if (options.isKnown(digest, name)) continue;
    // Synchronous, so that between the look and the row nothing can change the file through us.
    const stat = lstatSync(`${folder}/${name}`, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    if (stat.isFile()) options.onObject(digest, stat.size, stat.mtimeMs);
    else options.onForeign(path.join(folder, name));
  }
}
