/** The thread of file-reader.ts. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { type ReadArea, runReads } from './read-jobs.ts';

/** POSIX_FADV_WILLNEED of Linux: the system reads the bytes into the page cache, and the call does not wait for them. */
const willNeed = 3;

if (process.platform !== 'linux') throw new Error('posix_fadvise is only known on Linux');
const { functions } = process.getBuiltinModule('node:ffi').dlopen(null, {
  posix_fadvise: { arguments: ['int32', 'int64', 'int64', 'int32'], return: 'int32' },
});

parentPort?.postMessage('ready');
runReads(workerData as ReadArea, {
  start: (path, bytes) => {
    const fd = openToRead(path);
    functions.posix_fadvise(fd, 0n, BigInt(bytes), willNeed);
    return fd;
  },
  read: (fd, into) => readSync(fd, into, 0, into.length, 0),
  close: closeSync,
});

/** As in files.ts: without O_NOATIME the first read of a new file writes its inode. Only the owner of a file may use it. */
function openToRead(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOATIME);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    return openSync(path, 'r');
  }
}
