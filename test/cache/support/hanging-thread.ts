/** A thread for FileWriter. A path that ends with `/hang` hangs until the file `hang-release` exists. */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { type JobArea, runJobs } from '../../../services/cache/disk/write-jobs.ts';

parentPort?.postMessage('ready');
runJobs(workerData as JobArea, (temporary, path, bytes) => {
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  if (path.endsWith('/hang')) writeFileSync(`${path}-begun`, '');
  while (path.endsWith('/hang') && !existsSync(`${path}-release`)) Atomics.wait(sleep, 0, 0, 5);
  writeFileSync(temporary, bytes);
  renameSync(temporary, path);
  return 0;
});
