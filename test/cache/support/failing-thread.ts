/** A thread for FileWriter that ends in its first job. */
import { parentPort, workerData } from 'node:worker_threads';
import { type JobArea, runJobs } from '../../../services/cache/disk/write-jobs.ts';

parentPort?.postMessage('ready');
runJobs(workerData as JobArea, () => {
  throw new Error('the thread fails');
});
