/**
 * A thread for FileReader. It creates `<path>-started` for each file that it has started. The read of a path that ends with `/hang` hangs
 * until the file `<path>-release` exists. The thread ends in the read of a path that ends with `/fail`.
 */
import { closeSync, existsSync, openSync, readlinkSync, readSync, writeFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { type ReadArea, runReads } from '../../../services/cache/disk/read-jobs.ts';

parentPort?.postMessage('ready');
runReads(workerData as ReadArea, {
  start: (path) => {
    const fd = openSync(path, 'r');
    writeFileSync(`${path}-started`, '');
    return fd;
  },
  read: (fd, into) => {
    const path = readlinkSync(`/proc/self/fd/${fd}`);
    if (path.endsWith('/fail')) throw new Error('the thread fails');
    const sleep = new Int32Array(new SharedArrayBuffer(4));
    while (path.endsWith('/hang') && !existsSync(`${path}-release`)) Atomics.wait(sleep, 0, 0, 5);
    return readSync(fd, into, 0, into.length, 0);
  },
  close: closeSync,
});
