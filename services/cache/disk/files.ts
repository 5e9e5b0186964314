/** The system calls of a shard on its object files. A test can replace each of them to inject the errors of a disk. */
import fs from 'node:fs';
import { promisify } from 'node:util';
import type { WholeFile } from './file-reader.ts';

export interface Files {
  open(path: string, flags: string | number, mode?: number): Promise<number>;
  close(fd: number): void;
  /** For a file that keeps its name: closing it frees no blocks and takes 1 µs. The thread pool would take 20 µs. */
  closeSync(fd: number): void;
  read(fd: number, buffer: Buffer, offset: number, length: number, position: number): Promise<number>;
  readSync(fd: number, buffer: Buffer, offset: number, length: number, position: number): number;
  write(fd: number, buffer: Buffer, length: number, position: number): Promise<number>;
  size(fd: number): Promise<number>;
  truncate(fd: number, length: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Writes a small file and gives it its name, as one job. Resolves with false if it has not touched the disk (file-writer.ts). */
  writeWhole?(temporary: string, path: string, bytes: Buffer): Promise<boolean>;
  /** Opens and reads a file as one job. Resolves with undefined if another way must read it (file-reader.ts). */
  readWhole?(path: string, bytes: number): Promise<WholeFile | undefined>;
  /** Like unlink, for a file that the system frees in a moment. Resolves with false if it has not touched the disk. */
  unlinkSmall?(path: string): Promise<boolean>;
  /** Opens a file, reads a part and closes it, as one job. Resolves with undefined if that failed (tail-reader.ts). */
  readTail?(path: string, position: number, length: number): Promise<Buffer | undefined>;
}

const read = promisify(fs.read);
const write = promisify(fs.write);
const open = promisify(fs.open) as (path: string, flags: string | number, mode?: number) => Promise<number>;
const fstat = promisify(fs.fstat) as (fd: number) => Promise<fs.Stats>;

/** The real calls. Nothing waits for `close`, because the descriptor is closed even after an error (close(2)). */
export const systemFiles: Files = {
  open: (path, flags, mode) => (flags === 'r' ? openToRead(path) : open(path, flags, mode)),
  close: (fd) => fs.close(fd, () => {}),
  closeSync: (fd) => {
    try {
      fs.closeSync(fd);
    } catch {
      // The descriptor is closed anyway.
    }
  },
  read: async (fd, buffer, offset, length, position) => (await read(fd, buffer, offset, length, position)).bytesRead,
  readSync: fs.readSync,
  write: async (fd, buffer, length, position) => (await write(fd, buffer, 0, length, position)).bytesWritten,
  size: async (fd) => (await fstat(fd)).size,
  truncate: promisify(fs.ftruncate) as (fd: number, length: number) => Promise<void>,
  rename: promisify(fs.rename),
  unlink: promisify(fs.unlink),
};

/** Without O_NOATIME the first read of a new file writes its inode. Only the owner of a file may use it. Other files are opened again. */
async function openToRead(path: string): Promise<number> {
  try {
    return await open(path, fs.constants.O_RDONLY | fs.constants.O_NOATIME);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    return open(path, 'r');
  }
}

/** Wraps the calls: `onPending` gets 1 before and -1 after each call that runs in the thread pool. */
export function countPending(files: Files, onPending: (change: 1 | -1) => void): Files {
  const counted =
    <A extends unknown[], T>(call: (...args: A) => Promise<T>) =>
    async (...args: A): Promise<T> => {
      onPending(1);
      try {
        return await call(...args);
      } finally {
        onPending(-1);
      }
    };
  return {
    ...files,
    ...(files.writeWhole === undefined ? {} : { writeWhole: counted(files.writeWhole) }),
    ...(files.readWhole === undefined ? {} : { readWhole: counted(files.readWhole) }),
    ...(files.unlinkSmall === undefined ? {} : { unlinkSmall: counted(files.unlinkSmall) }),
    ...(files.readTail === undefined ? {} : { readTail: counted(files.readTail) }),
    open: counted(files.open),
    read: counted(files.read),
    write: counted(files.write),
    size: counted(files.size),
    truncate: counted(files.truncate),
    rename: counted(files.rename),
    unlink: counted(files.unlink),
  };
}

/** What an error of the file system means for a shard. */
export type FaultKind = 'absent' | 'full' | 'descriptors' | 'read-only' | 'timeout' | 'disk';

export function faultKind(error: unknown): FaultKind {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return 'absent';
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return 'full';
    case 'EMFILE':
    case 'ENFILE':
      return 'descriptors';
    case 'EROFS':
      return 'read-only';
    case 'DISK_TIMEOUT':
      return 'timeout';
    default:
      return 'disk';
  }
}
