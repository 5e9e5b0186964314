/** Pure: the newest changes of one collection, what a watch reads from: at its own pace, so that a slow one costs no memory of its own. */
import type { StoredObject } from './object.ts';

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  readonly object: StoredObject;
  readonly previous: StoredObject | undefined;
  /** Size of the object as JSON. */
  readonly sizeBytes: number;
}

/** The real API's watch cache keeps a similar number; whoever asks for older changes gets 410 and lists anew. */
export const changesLimit = 1_000;
/** A thousand changes of the largest objects would be gigabytes. */
const bytesLimit = 32 * 2 ** 20;

export class History {
  #changes: Change[] = [];
  #bytes = 0;
  /** Position of the oldest change that is kept; positions are given once and never again. */
  #first = 0;
  #forgotten: number;

  /** `forgotten` is the version up to which nothing is known. */
  constructor(forgotten: number) {
    this.#forgotten = forgotten;
  }

  /** The newest version that is no longer kept. */
  get forgotten(): number {
    return this.#forgotten;
  }

  /** The position of the next change to come. */
  get end(): number {
    return this.#first + this.#changes.length;
  }

  push(change: Change): void {
    this.#changes.push(change);
    this.#bytes += change.sizeBytes;
    while (this.#changes.length > changesLimit || (this.#bytes > bytesLimit && this.#changes.length > 1)) {
      const dropped = this.#changes.shift() as Change;
      this.#first++;
      this.#bytes -= dropped.sizeBytes;
      this.#forgotten = dropped.version;
    }
  }

  /** The position of the first change after `version`, or undefined when some change after it is forgotten. */
  positionAfter(version: number): number | undefined {
    if (version < this.#forgotten) return undefined;
    const at = this.#changes.findIndex((change) => change.version > version);
    return at < 0 ? this.end : this.#first + at;
  }

  /** The change at a position; 'forgotten' where it is no longer kept, undefined where it has not come yet. */
  at(position: number): Change | 'forgotten' | undefined {
    return position < this.#first ? 'forgotten' : this.#changes[position - this.#first];
  }
}
