/** A thread of tail-reader.ts. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import type { TailRead, TailsRead } from './tail-reader.ts';

parentPort?.on('message', (reads: readonly TailRead[]) => {
  const bytes = new Uint8Array(reads.reduce((sum, { length }) => sum + length, 0));
  const lengths: number[] = [];
  let at = 0;
  for (const read of reads) {
    const got = readTail(read, bytes, at);
    lengths.push(got);
    at += Math.max(0, got);
  }
  parentPort?.postMessage({ bytes, lengths } satisfies TailsRead, [bytes.buffer]);
});

/** Returns -1 for a file that cannot be read, for example without O_NOATIME. */
function readTail({ path, position, length }: TailRead, bytes: Uint8Array, at: number): number {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOATIME);
    try {
      return readSync(fd, bytes, at, length, position);
    } finally {
      closeSync(fd);
    }
  } catch {
    return -1;
  }
}
