/** Replaces files whole: a reader, and the next process after a crash, finds the old or the new content. */
import { open, rename } from 'node:fs/promises';

interface WriteOptions {
  /** Of a file that does not exist yet, less the process's umask. */
  readonly mode?: number;
  /** Whether the content must be on the disk before the file is replaced: a power failure could otherwise leave an empty file. */
  readonly sync?: boolean;
}

/** Writes beside the file and renames. Two writes of one file must not overlap. */
export async function replaceFile(file: string, content: string, { mode = 0o666, sync = false }: WriteOptions = {}): Promise<void> {
  const part = `${file}.part`;
  const handle = await open(part, 'w', mode);
  try {
    await handle.writeFile(content);
    if (sync) await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(part, file);
}
