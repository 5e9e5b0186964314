/** Runs rounds: often while somebody looks, seldom otherwise. */
import { setTimeout as delay } from 'node:timers/promises';

interface RoundsOptions {
  /** Does not reject. */
  readonly round: (options: { signal: AbortSignal; isWatched: boolean }) => Promise<void>;
  /** False before there is anything to read. */
  readonly isKnown: () => boolean;
  readonly watchedMs: number;
  readonly idleMs: number;
}

/** A page asks every 5 s. After this time without a request, nobody looks. */
const lookMs = 30_000;
/** Before the first lists there is nobody to ask, and a reader must not wait for a whole interval. */
const firstMs = 100;
/** A page waits for a round that is under way for this long. Then it shows the numbers of the last one. */
const maxWaitMs = 500;

export class Rounds {
  readonly #options: RoundsOptions;
  readonly #stopping = new AbortController();
  readonly #work: Promise<void>;
  #current: Promise<void> = Promise.resolve();
  #wake = new AbortController();
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(options: RoundsOptions) {
    this.#options = options;
    this.#work = this.#run();
  }

  /** Reports that somebody looks. Resolves when the numbers are as new as they can be in a moment. */
  async look(): Promise<void> {
    const wasWatched = this.#isWatched();
    this.#lookedAt = performance.now();
    if (!wasWatched) {
      this.#wake.abort();
      // The round begins in the next turn.
      await delay(0);
    }
    const timeout = new AbortController();
    await Promise.race([this.#current, delay(maxWaitMs, undefined, { signal: timeout.signal, ref: false }).catch(() => undefined)]);
    timeout.abort();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    this.#wake.abort();
    await this.#work;
  }

  #isWatched(): boolean {
    return performance.now() - this.#lookedAt < lookMs;
  }

  async #run(): Promise<void> {
    const { round, isKnown, watchedMs, idleMs } = this.#options;
    while (!this.#stopping.signal.aborted) {
      const startedAt = performance.now();
      this.#wake = new AbortController();
      if (isKnown()) {
        this.#current = round({ signal: this.#stopping.signal, isWatched: this.#isWatched() });
        await this.#current;
      }
      const intervalMs = isKnown() ? (this.#isWatched() ? watchedMs : idleMs) : firstMs;
      const leftMs = Math.max(0, intervalMs - (performance.now() - startedAt));
      const signal = AbortSignal.any([this.#stopping.signal, this.#wake.signal]);
      await delay(leftMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}
