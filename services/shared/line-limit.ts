/** Pure: limits the log lines in each second, so that a flood of requests does not fill a disk. */
export class LineLimit {
  readonly #maxPerSecond: number;
  #second = 0;
  #lines = 0;

  constructor(maxPerSecond: number) {
    this.#maxPerSecond = maxPerSecond;
  }

  /** Counts a line. `isAdmitted`: whether it may be written. `unwritten`: in a second that has just ended, the lines above the limit. */
  count(nowMs: number): { isAdmitted: boolean; unwritten: number } {
    const current = Math.floor(nowMs / 1000);
    let unwritten = 0;
    if (current !== this.#second) {
      unwritten = Math.max(0, this.#lines - this.#maxPerSecond);
      this.#second = current;
      this.#lines = 0;
    }
    this.#lines += 1;
    return { isAdmitted: this.#lines <= this.#maxPerSecond, unwritten };
  }
}
