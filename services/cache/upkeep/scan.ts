/** Scans every file of the directory once after a start, while the shard serves requests. */
import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Digest } from '../digest.ts';
import { folderCount, folderName, objectsFolder, parseFileName } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';

/** Files that are scanned concurrently: enough to use the thread pool, few enough to leave threads for requests. */
const batchFiles = 16;

interface ScanOptions {
  readonly directory: string;
  readonly signal: AbortSignal;
  /** Whether the file is already known or is being changed. Called before and after lstat. */
  readonly isKnown: (digest: Digest, name: string) => boolean;
  /** It counts the object before its first await. Resolves with false if the folder must be scanned again. Does not reject. */
  readonly onObject: (digest: Digest, sizeBytes: number, modifiedAtMs: number) => Promise<boolean>;
  /** Called for a file that is not an object. The file stays. */
  readonly onForeign: (file: string) => void;
  readonly onError: (error: unknown) => void;
  readonly onFolder?: (number: number) => void;
}

/** Resolves with the numbers of the folders that must be scanned again. */
export async function scanObjects(options: ScanOptions, folders = allFolders()): Promise<number[]> {
  const failed: number[] = [];
  for (const number of folders) {
    if (options.signal.aborted) break;
    if (!(await scanFolder(options, folderName(number)))) failed.push(number);
    options.onFolder?.(number);
  }
  return failed;
}

function allFolders(): number[] {
  return Array.from({ length: folderCount }, (_, number) => number);
}

async function scanFolder(options: ScanOptions, prefix: string): Promise<boolean> {
  const folder = path.join(objectsFolder(options.directory), prefix);
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    options.onError(error);
    return false;
  }
  let isWhole = true;
  for (let at = 0; at < names.length && !options.signal.aborted; at += batchFiles) {
    const looks = names.slice(at, at + batchFiles).map(async (name) => {
      const file = path.join(folder, name);
      const digest = name.startsWith(prefix) ? parseFileName(name) : undefined;
      if (digest === undefined) return options.onForeign(file);
      if (options.isKnown(digest, name)) return;
      try {
        if (!(await take(options, file, { name, digest }, await lstat(file)))) isWhole = false;
      } catch (error) {
        if (faultKind(error) === 'absent') return;
        options.onError(error);
        isWhole = false;
      }
    });
    await Promise.all(looks);
  }
  return isWhole;
}

/** Runs in the same turn of the event loop as the result of lstat: no request can change the file between this check and the new row. */
async function take(options: ScanOptions, file: string, { name, digest }: { name: string; digest: Digest }, stat: Stats): Promise<boolean> {
  if (options.isKnown(digest, name)) return true;
  if (stat.isFile()) return await options.onObject(digest, stat.size, stat.mtimeMs);
  options.onForeign(file);
  return true;
}
