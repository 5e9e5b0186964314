/** Reads files in batches with rests, so that requests have most of the event loop, of the thread pool and of the disk. */
import { setTimeout as delay } from 'node:timers/promises';

/** Files that are read concurrently. The thread pool has 32 threads, so half of them stay free for requests. */
export const batchFiles = 16;

interface BatchOptions<File, Found> {
  readonly files: readonly File[];
  readonly read: (file: File) => Promise<Found>;
  readonly minRestMs: number;
  readonly signal: AbortSignal;
}

/** Rests half as long as the batch took: the busier the disk and the processor, the longer. The signal ends the rest. */
export async function readBatch<File, Found>({ files, read, minRestMs, signal }: BatchOptions<File, Found>): Promise<Found[]> {
  const startedMs = performance.now();
  const found = await Promise.all(files.map(read));
  const restMs = Math.max(minRestMs, (performance.now() - startedMs) / 2);
  await delay(restMs, undefined, { signal, ref: false }).catch(() => {});
  return found;
}
