/** Reads files in batches. Beside requests it rests between them, so that requests have most of the event loop and of the disk. */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import type { Counters } from '../counters.ts';

/** Longest rest after a slow batch. Only two threads read (tail-reader.ts), so that requests also reach a slow disk beside them. */
const maxRestMs = 4;

interface BatchesOptions {
  readonly counters: Pick<Counters, 'ended' | 'pendingFileCalls'>;
  readonly signal: AbortSignal;
  /** Rest after a fast batch beside requests. */
  readonly minRestMs: number;
  /** Rest after a batch that no request ran beside. */
  readonly idleRestMs?: number;
}

export class Batches {
  readonly #options: BatchesOptions;
  #ended: number;

  constructor(options: BatchesOptions) {
    this.#options = options;
    this.#ended = options.counters.ended;
  }

  /** Beside requests it rests a part of the time that the batch took: the busier the disk and the processor, the longer. */
  async read<File, Found>(files: readonly File[], read: (file: File) => Promise<Found>): Promise<Found[]> {
    const { minRestMs, idleRestMs = 0 } = this.#options;
    const startedMs = performance.now();
    const found = await Promise.all(files.map(read));
    const busyRestMs = Math.max(minRestMs, Math.min(maxRestMs, (performance.now() - startedMs) / 4));
    const restMs = this.#isBesideRequests() ? busyRestMs : idleRestMs;
    if (restMs === 0) await nextTurn();
    else await delay(restMs, undefined, { signal: this.#options.signal, ref: false }).catch(() => {});
    return found;
  }

  /** Whether a request has ended since the batch before, or waits for the disk. */
  #isBesideRequests(): boolean {
    const { ended, pendingFileCalls } = this.#options.counters;
    const isBeside = ended !== this.#ended || pendingFileCalls > 0;
    this.#ended = ended;
    return isBeside;
  }
}
