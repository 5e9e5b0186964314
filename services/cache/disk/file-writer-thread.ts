/** The thread of file-writer.ts. */
import { closeSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { type JobArea, runJobs } from './write-jobs.ts';

parentPort?.postMessage('ready');
runJobs(workerData as JobArea, runJob);

function runJob(temporary: string, path: string, bytes: Buffer): number {
  try {
    if (temporary === '') unlinkSync(path);
    else writeFile(temporary, path, bytes);
    return 0;
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -constants.errno.EIO;
  }
}

function writeFile(temporary: string, path: string, bytes: Buffer): void {
  const fd = openSync(temporary, 'wx', 0o600);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
}
