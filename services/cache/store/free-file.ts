/** Frees the blocks of a removed file, in short steps. */
import type { Files } from '../disk/files.ts';
import { blocksOf, fileBlockBytes, type Space } from '../index/space.ts';
import type { OpenObject } from './open-object.ts';

/**
 * Larger files are emptied in steps: unlink of a cached file of 24 GiB takes 6.2 s, one step of 64 MiB at most 16 ms. A step is a multiple of
 * every folio of the page cache. Within a folio, the system would write zeros, which a socket may still have to send (sendfile).
 */
const largeFileBytes = 64 * 1024 * 1024;

interface FreedFile {
  readonly files: Files;
  readonly space: Space;
  /** Room that still counts for the file, in bytes. */
  readonly bytes: number;
  /** The open version, which may still have readers. */
  readonly object: OpenObject | undefined;
}

/** Opens a large file before its removal, so that it can be emptied afterwards. Resolves with undefined for a small file. */
export async function holdLarge(files: Files, path: string, bytes: number): Promise<number | undefined> {
  return bytes > largeFileBytes ? files.open(path, 'r+') : undefined;
}

/** Call it after the removal. Waits for the last reader, then frees the blocks and the room in steps. `held` is the result of holdLarge. */
export async function freeRoom({ files, space, bytes, object }: FreedFile, held: number | undefined): Promise<void> {
  if (object !== undefined) await object.closed;
  let left = bytes;
  if (held !== undefined) {
    try {
      for (let size = Math.floor((await files.size(held)) / largeFileBytes) * largeFileBytes; size > 0; size -= largeFileBytes) {
        await files.truncate(held, size);
        const freed = Math.max(0, left - blocksOf(size) * fileBlockBytes);
        left -= freed;
        space.endDelete(freed, 0);
      }
    } catch {
      // The close below frees the rest at once.
    } finally {
      files.close(held);
    }
  }
  space.endDelete(left, 1);
}
