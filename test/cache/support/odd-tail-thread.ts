/**
 * A thread for TailReader. It ends at a path that ends with `/fail`, takes 40 ms for one with `/slow`, and hangs at one with `/hang` until
 * the file `hang-release` exists.
 */
import { existsSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import type { TailRead, TailsRead } from '../../../services/cache/disk/tail-reader.ts';

parentPort?.on('message', (reads: readonly TailRead[]) => {
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  for (const { path } of reads) {
    if (path.endsWith('/fail')) throw new Error('the thread fails');
    if (path.endsWith('/slow')) Atomics.wait(sleep, 0, 0, 40);
    while (path.endsWith('/hang') && !existsSync(`${path}-release`)) Atomics.wait(sleep, 0, 0, 5);
  }
  const answer: TailsRead = { bytes: new Uint8Array(reads.length).fill(7), lengths: reads.map(() => 1) };
  parentPort?.postMessage(answer);
});
