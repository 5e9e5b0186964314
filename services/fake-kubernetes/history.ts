/** Pure: the newest changes of one collection. Each watch reads them at its own speed, so a slow watch needs no buffer. */
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
/** A thousand changes of the largest objects would need gigabytes. */
const maxHistoryBytes = 32 * 2 ** 20;

export class History {
  #changes: Change[] = [];
  #bytes = 0;
  /** Position of the oldest kept change. Positions are never reused. */
  #first = 0;
  #forgotten: number;

  /** Changes up to the version `forgotten` are not known. */
  constructor(forgotten: number) {
    this.#forgotten = forgotten;
  }

  /** The newest version that is no longer kept. */
  get forgotten(): number {
    return this.#forgotten;
  }

  /** The position of the next change. */
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

  /** The position of the first change after `version`; undefined when a change after it is forgotten. */
  positionAfter(version: number): number | undefined {
    if (version < this.#forgotten) return undefined;
    const at = this.#changes.findIndex((change) => change.version > version);
    return at < 0 ? this.end : this.#first + at;
  }

  /** The change at a position: 'forgotten' when it is no longer kept, undefined when it has not happened yet. */
  at(position: number): Change | 'forgotten' | undefined {
    return position < this.#first ? 'forgotten' : this.#changes[position - this.#first];
  }
}
