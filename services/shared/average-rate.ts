/** Pure: the speed of a transfer over its last 30 s, and the time that is left. */

export interface Amount {
  readonly objects: number;
  readonly bytes: number;
}

interface Sample extends Amount {
  readonly atMs: number;
}

const windowMs = 30_000;
const sampleMs = 1_000;
/** A request costs about as much time as this many bytes, so that neither small nor large files mislead the estimate. */
const objectCostBytes = 64 * 1024;

export class AverageRate {
  /** The first one is the oldest of the window; at most one a second. */
  readonly #samples: Sample[];
  #last: Sample;

  /** `atMs` is a monotonic time. */
  constructor(atMs: number, done: Amount = { objects: 0, bytes: 0 }) {
    this.#last = { atMs, ...done };
    this.#samples = [this.#last];
  }

  /** `done` is what has been transferred by `atMs`. */
  add(atMs: number, done: Amount): void {
    // A body that is sent again starts at its beginning.
    if (done.bytes < this.#last.bytes) this.#samples.length = 0;
    this.#last = { atMs, ...done };
    const newest = this.#samples.at(-1);
    if (newest === undefined || atMs - newest.atMs >= sampleMs) this.#samples.push(this.#last);
    while (this.#samples.length > 1 && atMs - (this.#samples[1] as Sample).atMs >= windowMs) this.#samples.shift();
  }

  /** Objects and bytes per second. */
  perSecond(nowMs: number): Amount {
    const [first] = this.#samples as [Sample];
    const seconds = Math.max(0.001, (nowMs - first.atMs) / 1000);
    return { objects: (this.#last.objects - first.objects) / seconds, bytes: (this.#last.bytes - first.bytes) / seconds };
  }

  /** Undefined before anything was transferred. */
  secondsLeft(nowMs: number, total: Amount): number | undefined {
    const { objects, bytes } = this.#last;
    const speed = cost(this.perSecond(nowMs));
    const left = cost({ objects: total.objects - objects, bytes: Math.max(0, total.bytes - bytes) });
    return speed === 0 ? undefined : left / speed;
  }
}

function cost({ objects, bytes }: Amount): number {
  return objects * objectCostBytes + bytes;
}
