/** The clocks of a shard: monotonic steps for recency, and the wall clock for commit times. */

/** A step of recency: 32 bits of 100 ms last 13 years. */
export const tickMs = 100;

export class Clock {
  /** The first step of this process. A snapshot moves it past all steps of the snapshot. */
  #base = 1;
  readonly #startMs = performance.now();
  #lastCommit = 0n;

  tick(): number {
    return this.#base + Math.floor((performance.now() - this.#startMs) / tickMs);
  }

  /** Continues after the steps of an earlier process. */
  continueAfter(tick: number): void {
    this.#base = Math.max(this.#base, tick + 1);
  }

  /** Gives all later commits a time after this one, also if the wall clock has gone back since an earlier process. */
  commitAfter(time: bigint): void {
    if (time > this.#lastCommit) this.#lastCommit = time;
  }

  /**
   * Microseconds since 1970. Each call returns a higher value, even if the wall clock goes back, so that two versions never share an ETag.
   */
  commitTime(): bigint {
    const now = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000));
    this.#lastCommit = now > this.#lastCommit ? now : this.#lastCommit + 1n;
    return this.#lastCommit;
  }
}
