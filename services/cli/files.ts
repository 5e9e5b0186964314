import { opendir, stat } from 'node:fs/promises';
import path from 'node:path';

export interface SourceFile {
  /** Relative to the folder, joined by `/`. */
  readonly name: string;
  readonly path: string;
  readonly size: number;
}

export interface Listing {
  readonly files: readonly SourceFile[];
  /** What is neither a regular file nor a folder, links that lead nowhere or to a folder (which could lead in circles), and names that are not UTF-8. */
  readonly skipped: readonly string[];
}

/** Every regular file below a folder; links to files are followed. Rejects when the folder cannot be read. */
export async function listFiles(folder: string): Promise<Listing> {
  const files: SourceFile[] = [];
  const skipped: string[] = [];
  const directory = await opendir(folder, { recursive: true });
  for await (const entry of directory) {
    if (entry.isDirectory()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const name = path.relative(folder, file).split(path.sep).join('/');
    const status = entry.isFile() || entry.isSymbolicLink() ? await stat(file).catch(() => undefined) : undefined;
    if (status?.isFile()) files.push({ name, path: file, size: status.size });
    else skipped.push(name);
  }
  return { files, skipped };
}
