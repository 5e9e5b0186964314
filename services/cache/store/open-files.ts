/** Descriptors kept open between requests, so that a hot object costs no open(2). Their number is bounded; second chance decides which one closes. */
import type { Key } from '../../shared/key.ts';
import type { OpenObject } from './open-object.ts';

interface Entry {
  readonly object: OpenObject;
  /** Read since the last look for descriptors to close. */
  isRecent: boolean;
}

export class OpenFiles {
  readonly #max: number;
  readonly #byKey = new Map<Key, Entry>();
  readonly #byRow = new Map<number, OpenObject>();

  constructor({ max }: { max: number }) {
    this.#max = max;
  }

  get size(): number {
    return this.#byKey.size;
  }

  get(key: Key): OpenObject | undefined {
    const entry = this.#byKey.get(key);
    if (entry === undefined) return undefined;
    entry.isRecent = true;
    return entry.object;
  }

  ofRow(row: number): OpenObject | undefined {
    return this.#byRow.get(row);
  }

  /** Takes over one reference. The index must hold the object. */
  add(object: OpenObject): void {
    this.remove(this.#byKey.get(object.key)?.object);
    this.#byKey.set(object.key, { object, isRecent: true });
    this.#byRow.set(object.row, object);
    this.shrink(this.#max);
  }

  /** Releases an object; its descriptor closes when its last reader ends. */
  remove(object: OpenObject | undefined): void {
    if (object === undefined || this.#byKey.get(object.key)?.object !== object) return;
    this.#byKey.delete(object.key);
    this.#byRow.delete(object.row);
    object.release();
  }

  /** Closes what was not read lately. What is being read stays: it must be found when its room is to be freed. */
  shrink(max: number): void {
    let looks = this.#byKey.size * 2;
    for (const [key, entry] of this.#byKey) {
      if (this.#byKey.size <= max || looks === 0) return;
      looks -= 1;
      if (!entry.object.isInUse && (!entry.isRecent || max === 0)) {
        this.remove(entry.object);
        continue;
      }
      entry.isRecent = false;
      this.#byKey.delete(key);
      this.#byKey.set(key, entry);
    }
  }
}
