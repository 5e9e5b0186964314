/** Descriptors that stay open between requests, so that a hot object needs no open(2). Second chance selects those above the limit. */
import type { Key } from '../../shared/key.ts';
import type { OpenObject } from './open-object.ts';

interface Entry {
  readonly object: OpenObject;
  /** Read since `shrink` last checked it. */
  isRecent: boolean;
}

export class OpenFiles {
  readonly #max: number;
  readonly #byKey = new Map<Key, Entry>();
  /** Also the hidden objects. */
  readonly #byRow = new Map<number, OpenObject>();
  /**
   * All objects without readers, and some with readers. `shrink` takes out objects with readers, and the end of their use puts them back.
   * So `shrink` checks an object in use at most once for each use.
   */
  readonly #idle = new Set<Entry>();
  /** An iterator at the front of `#idle`. A new iterator would step over all entries that were deleted there. */
  #front = this.#idle.values();

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

  /** Takes over one reference. The index must have a row for the object. */
  add(object: OpenObject): void {
    this.remove(this.#byKey.get(object.key)?.object);
    const entry = { object, isRecent: true };
    this.#byKey.set(object.key, entry);
    this.#byRow.set(object.row, object);
    this.#idle.add(entry);
    object.onIdle = () => this.#reenter(entry);
    this.shrink(this.#max);
  }

  /** Releases an object; its descriptor closes when its last reader ends. */
  remove(object: OpenObject | undefined): void {
    if (object === undefined || this.#byRow.get(object.row) !== object) return;
    this.#dropKey(object);
    this.#byRow.delete(object.row);
    object.onIdle = undefined;
    object.release();
  }

  /** No request gets the object any more. While it has readers, `ofRow` returns it, so that the store waits for them. */
  hide(object: OpenObject): void {
    if (!object.isInUse) this.remove(object);
    else if (this.#dropKey(object)) object.onIdle = () => this.remove(object);
  }

  /** Takes an object with readers back after `remove`, because its row was restored. It stays hidden. */
  takeBack(object: OpenObject): void {
    object.acquire();
    this.#byRow.set(object.row, object);
    object.onIdle = () => this.remove(object);
  }

  /** Hides all objects for which the test holds. */
  hideIf(test: (object: OpenObject) => boolean): void {
    for (const { object } of this.#byKey.values()) if (test(object)) this.hide(object);
  }

  /** Closes objects that were not read lately. Objects with readers stay, because the store must find them when it frees their room. */
  shrink(max: number): void {
    // The first check of an object may only clear `isRecent`. The second closes it.
    for (let looks = this.#idle.size * 2; looks > 0 && this.#byKey.size > max; looks -= 1) {
      const entry = this.#first();
      if (entry === undefined) return;
      this.#idle.delete(entry);
      if (entry.object.isInUse) continue;
      if (!entry.isRecent || max === 0) this.remove(entry.object);
      else {
        entry.isRecent = false;
        this.#idle.add(entry);
      }
    }
  }

  /** Returns whether requests could get the object. */
  #dropKey(object: OpenObject): boolean {
    const entry = this.#byKey.get(object.key);
    if (entry?.object !== object) return false;
    this.#byKey.delete(object.key);
    this.#idle.delete(entry);
    return true;
  }

  #first(): Entry | undefined {
    const { value, done } = this.#front.next();
    if (!done) return value;
    this.#front = this.#idle.values();
    return this.#front.next().value;
  }

  /** Objects in use may exceed the limit. At the end of their use, the limit applies again. */
  #reenter(entry: Entry): void {
    this.#idle.add(entry);
    this.shrink(this.#max);
  }
}
