/** Small files that are made once and kept: keys and tokens. */
import { readFile, rename, writeFile } from 'node:fs/promises';

/** Reads a file, or makes it whole with mode 0600. */
export async function readOrMake(file: string, make: () => string | Promise<string>): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const text = await make();
  await writeWhole(file, text);
  return text;
}

/** Replaces a file so that nobody ever reads a part of it. */
export async function writeWhole(file: string, text: string): Promise<void> {
  await writeFile(`${file}.part`, text, { mode: 0o600 });
  await rename(`${file}.part`, file);
}
