/**
 * Pure: predicts which objects are in the page cache. A synchronous read of a cached page costs a third of a read through the thread pool.
 * A synchronous read of a cold page blocks the event loop for the latency of the disk. An object is warm if fewer bytes than the window
 * size have entered the page cache since its last use.
 */

interface Mark {
  readonly tick: number;
  readonly enteredBytes: number;
}

/** Smallest window. Data that was used this recently is in memory even on a small machine. */
const minWindowBytes = 32 * 1024 * 1024;
const maxMarks = 512;

export class PageCacheWindow {
  readonly #maxBytes: number;
  #windowBytes: number;
  #enteredBytes = 0;
  #sinceTick: number;
  #marks: Mark[] = [];

  /** `maxBytes`: half of the memory that may hold pages. Nothing used before `startTick` is warm. */
  constructor({ maxBytes, startTick }: { maxBytes: number; startTick: number }) {
    this.#maxBytes = Math.max(maxBytes, minWindowBytes);
    this.#windowBytes = this.#maxBytes;
    this.#sinceTick = startTick;
  }

  get windowBytes(): number {
    return this.#windowBytes;
  }

  isWarm(lastUseTick: number): boolean {
    return lastUseTick >= this.#sinceTick;
  }

  /** Records bytes that entered the page cache by a cold read or a write. */
  entered(bytes: number, tick: number): void {
    this.#enteredBytes += bytes;
    const last = this.#marks.at(-1);
    if (last === undefined || (last.tick !== tick && this.#enteredBytes - last.enteredBytes >= this.#windowBytes / maxMarks)) {
      this.#marks.push({ tick, enteredBytes: this.#enteredBytes });
    }
    this.#slide();
  }

  /** Call it when a read of a warm object went to the disk: the window is too large. */
  shrink(): void {
    this.#windowBytes = Math.max(minWindowBytes, Math.floor(this.#windowBytes * 0.75));
    this.#slide();
  }

  /** Call it after some time without such a read. */
  grow(): void {
    this.#windowBytes = Math.min(this.#maxBytes, Math.floor(this.#windowBytes * 1.125));
  }

  #slide(): void {
    for (
      let first = this.#marks[0];
      first !== undefined && this.#enteredBytes - first.enteredBytes > this.#windowBytes;
      first = this.#marks[0]
    ) {
      this.#sinceTick = Math.max(this.#sinceTick, first.tick + 1);
      this.#marks.shift();
    }
  }
}
