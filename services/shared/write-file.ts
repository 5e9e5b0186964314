/** Replaces files atomically: a reader, or the next process after a crash, finds the old or the new content. */
import { open, rename } from 'node:fs/promises';
import path from 'node:path';

interface WriteOptions {
  /** Mode of a file that does not exist yet, reduced by the umask of the process. */
  readonly mode?: number;
  /** Whether to sync the content to the disk before the rename. Without it, a power failure could leave an empty file. */
  readonly sync?: boolean;
}

/** Writes a temporary file next to the target and renames it. Do not run two writes of one file at the same time. */
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
  if (!sync) return;
  // The new name is on the disk only after a sync of its folder.
  const folder = await open(path.dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
