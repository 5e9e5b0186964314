/** A thread for FileWriter that ends in the job of a path that ends with `/fail`. */
import { renameSync, writeFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { type JobArea, runJobs } from '../../../services/cache/disk/write-jobs.ts';

parentPort?.postMessage('ready');
runJobs(workerData as JobArea, (temporary, path, bytes) => {
  if (path.endsWith('/fail')) throw new Error('the thread fails');
  writeFileSync(temporary, bytes);
  renameSync(temporary, path);
  return 0;
});
