/** Pure: the newest changes of one collection. Each watch reads them at its own pace, so a slow one costs no memory. */
import type { StoredObject } from './object.ts';

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  readonly object: StoredObject;
  readonly previous: StoredObject | undefined;
  /** Size of the object as JSON. */
  readonly sizeBytes: number;
}

/** The real API's watch cache keeps a similar number. A client that asks for older changes gets 410 and lists again. */
export const maxChanges = 1_000;
/** A thousand changes of the largest objects would be gigabytes. */
const maxHistoryBytes = 32 * 2 ** 20;

export class History {
  #changes: Change[] = [];
  #bytes = 0;
  /** Position of the oldest change that is kept. A position is never given to a second change. */
  #first = 0;
  #forgotten: number;

  /** No change up to the version `forgotten` is known. */
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
    while (this.#changes.length > maxChanges || (this.#bytes > maxHistoryBytes && this.#changes.length > 1)) {
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
