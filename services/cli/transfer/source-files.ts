/** The files to transfer: those of a folder, or those that a list names. */
import { opendir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { orUsageError, UsageError } from '../usage-error.ts';

export interface SourceFile {
  /** Relative to the folder, joined by `/`. */
  readonly name: string;
  readonly path: string;
  readonly size: number;
}

/**
 * Lists every regular file below a folder and follows links to files. Reports the number of skipped entries. Throws UsageError if the
 * folder is unreadable or has no files.
 */
export async function listFolder(folder: string, report: (line: string) => void): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  const skipped: string[] = [];
  try {
    const directory = await opendir(folder, { recursive: true });
    for await (const entry of directory) {
      if (entry.isDirectory()) continue;
      const file = path.join(entry.parentPath, entry.name);
      const name = path.relative(folder, file).split(path.sep).join('/');
      const found = entry.isFile() || entry.isSymbolicLink() ? await sourceFile(name, file) : undefined;
      if (found === undefined) skipped.push(name);
      else files.push(found);
    }
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
  // Links to folders are not followed, because they can form a cycle.
  if (skipped.length > 0)
    report(`skipped ${skipped.length} entries that are not files, not links to files, or not named in UTF-8, such as ${skipped[0]}`);
  if (files.length === 0) throw new UsageError(`${folder} contains no files`);
  return files;
}

/** Reads a list with one file name per line, relative to the folder of the list. Throws UsageError if a file does not exist. */
export async function readList(list: string): Promise<SourceFile[]> {
  const text = await orUsageError(readFile(list, 'utf8'));
  const files: SourceFile[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const name = path.posix.normalize(line.trim()).replace(/^\/+/, '');
    const found = name.startsWith('..') ? undefined : await sourceFile(name, path.resolve(path.dirname(list), line.trim()));
    if (found === undefined)
      throw new UsageError(`${list}, line ${index + 1}: ${line.trim()} is not a file in or below the folder of the list`);
    files.push(found);
  }
  if (files.length === 0) throw new UsageError(`${list} contains no file names`);
  return files;
}

export function sizeOf(files: readonly SourceFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

async function sourceFile(name: string, file: string): Promise<SourceFile | undefined> {
  const status = await stat(file).catch(() => undefined);
  return status?.isFile() ? { name, path: file, size: status.size } : undefined;
}
