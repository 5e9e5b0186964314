import { opendir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { orUsageError, UsageError } from './usage-error.ts';

export interface SourceFile {
  /** Relative to the folder, joined by `/`. */
  readonly name: string;
  readonly path: string;
  readonly size: number;
}

/** Every regular file below a folder; links to files are followed. What is left out is told. Throws UsageError when the folder cannot be read or has none. */
export async function listFolder(folder: string, say: (line: string) => void): Promise<SourceFile[]> {
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
  // Links to folders could lead in circles.
  if (skipped.length > 0)
    say(`skipped, not a file or a link to one, or a name that is not UTF-8: ${skipped.length}, such as ${skipped[0]}`);
  if (files.length === 0) throw new UsageError(`${folder} has no files`);
  return files;
}

/** The files that a list names, a line each, relative to the list's own folder. Throws UsageError for one that is not there. */
export async function readList(list: string): Promise<SourceFile[]> {
  const text = await orUsageError(readFile(list, 'utf8'));
  const files: SourceFile[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const name = path.posix.normalize(line.trim()).replace(/^\/+/, '');
    const found = name.startsWith('..') ? undefined : await sourceFile(name, path.resolve(path.dirname(list), line.trim()));
    if (found === undefined) throw new UsageError(`${list}, line ${index + 1}: ${line.trim()} is not a file in or below the list's folder`);
    files.push(found);
  }
  if (files.length === 0) throw new UsageError(`${list} names no files`);
  return files;
}

export function sizeOf(files: readonly SourceFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

async function sourceFile(name: string, file: string): Promise<SourceFile | undefined> {
  const status = await stat(file).catch(() => undefined);
  return status?.isFile() ? { name, path: file, size: status.size } : undefined;
}
