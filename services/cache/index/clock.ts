/** Time as a shard uses it: steps that never go back for recency, the wall clock only for commit times. */

/** A step of recency: 32 bits of 100 ms last 13 years. */
export const tickMs = 100;

export class Clock {
  /** The step at which this process started; a snapshot moves it past every step that it holds. */
  #base = 1;
  readonly #startMs = performance.now();
  #lastCommit = 0n;

  tick(): number {
    return this.#base + Math.floor((performance.now() - this.#startMs) / tickMs);
  }

  /** Goes on after the steps of an earlier process. */
  continueAfter(tick: number): void {
    this.#base = Math.max(this.#base, tick + 1);
  }

  /** Microseconds since 1970, different for every call even when the wall clock goes back, so that two versions never share an ETag. */
  commitTime(): bigint {
    const now = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000));
    this.#lastCommit = now > this.#lastCommit ? now : this.#lastCommit + 1n;
    return this.#lastCommit;
  }
}
