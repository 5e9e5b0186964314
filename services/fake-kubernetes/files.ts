/** Small files that are created once and kept: keys and tokens. */
import { readFile } from 'node:fs/promises';
import { replaceFile } from '../shared/write-file.ts';

/** Reads a file, or creates it atomically with mode 0600. */
export async function readOrMake(file: string, make: () => string | Promise<string>): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const text = await make();
  await replaceFile(file, text, { mode: 0o600 });
  return text;
}
