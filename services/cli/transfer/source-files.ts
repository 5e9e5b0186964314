/** The files to transfer: those of a folder, or those that a list names. */
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { orUsageError, UsageError } from '../usage-error.ts';
import { type FileName, fileName, joinNames } from './file-name.ts';

export interface SourceFile {
  /** Relative to the folder, joined by `/`. */
  readonly name: FileName;
  readonly path: FileName;
  readonly size: number;
}

/**
 * Lists every regular file below a folder and follows links to files. Reports the number of skipped entries. Throws UsageError if the
 * folder is unreadable or has no files.
 */
export async function listFolder(folder: FileName, report: (line: string) => void): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  const skipped: FileName[] = [];
  const folders: FileName[] = [''];
  for (let below = folders.pop(); below !== undefined; below = folders.pop()) {
    const entries = await orUsageError(
      readdir(below === '' ? folder : joinNames(folder, below), { withFileTypes: true, encoding: 'buffer' }),
    );
    for (const entry of entries) {
      const name = joinNames(below, fileName(entry.name));
      // Links to folders are not followed, because they can form a cycle.
      if (entry.isDirectory()) folders.push(name);
      else {
        const found = entry.isFile() || entry.isSymbolicLink() ? await sourceFile(name, joinNames(folder, name)) : undefined;
        if (found === undefined) skipped.push(name);
        else files.push(found);
      }
    }
  }
  if (skipped.length > 0) report(`skipped ${skipped.length} entries that are not files and not links to files, such as ${skipped[0]}`);
  if (files.length === 0) throw new UsageError(`${folder} contains no files`);
  return files;
}

/** Reads a list with one file name per line, relative to the folder of the list. Throws UsageError if a file does not exist. */
export async function readList(list: FileName): Promise<SourceFile[]> {
  const folder = path.dirname(String(list));
  // One character per byte, because a name need not be UTF-8.
  const lines = (await orUsageError(readFile(list, 'latin1'))).split('\n');
  const files: SourceFile[] = [];
  for (const [index, line] of lines.entries()) {
    const typed = line.replace(/\r$/, '');
    if (typed === '') continue;
    const toName = (text: string): FileName => fileName(Buffer.from(text, 'latin1'));
    const name = path.posix.normalize(typed).replace(/^\/+/, '');
    const file = typed.startsWith('/') ? toName(typed) : joinNames(folder, toName(typed));
    const found = name.startsWith('..') ? undefined : await sourceFile(toName(name), file);
    if (found === undefined)
      throw new UsageError(`${list}, line ${index + 1}: ${toName(typed)} is not a file in or below the folder of the list`);
    files.push(found);
  }
  if (files.length === 0) throw new UsageError(`${list} contains no file names`);
  return files;
}

export function sizeOf(files: readonly SourceFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

async function sourceFile(name: FileName, file: FileName): Promise<SourceFile | undefined> {
  const status = await stat(file).catch(() => undefined);
  return status?.isFile() ? { name, path: file, size: status.size } : undefined;
}
