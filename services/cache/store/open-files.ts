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
  /**
   * Every object that no reader has, and some that readers have: a look takes these out, and the end of their use puts them back. So each look is paid for by a use, and
   * objects in use cost nothing.
   */
  readonly #idle = new Set<Entry>();
  /** Stays at the front of `#idle`: a new iterator would walk over the places of all that were taken out there. */
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

  /** Takes over one reference. The index must hold the object. */
  add(object: OpenObject): void {
    this.remove(this.#byKey.get(object.key)?.object);
    const entry = { object, isRecent: true };
    this.#byKey.set(object.key, entry);
    this.#byRow.set(object.row, object);
    this.#idle.add(entry);
    object.onIdle = () => this.#takeBack(entry);
    this.shrink(this.#max);
  }

  /** Releases an object; its descriptor closes when its last reader ends. */
  remove(object: OpenObject | undefined): void {
    if (object === undefined) return;
    const entry = this.#byKey.get(object.key);
    if (entry?.object !== object) return;
    this.#byKey.delete(object.key);
    this.#byRow.delete(object.row);
    this.#idle.delete(entry);
    object.onIdle = undefined;
    object.release();
  }

  /** Closes what was not read lately. What is being read stays: it must be found when its room is to be freed. */
  shrink(max: number): void {
    // The first look at an object may only note that it was read; the second closes it.
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

  #first(): Entry | undefined {
    const { value, done } = this.#front.next();
    if (!done) return value;
    this.#front = this.#idle.values();
    return this.#front.next().value;
  }

  /** While more is open than the bound, because all of it was in use, what is no longer used closes. */
  #takeBack(entry: Entry): void {
    this.#idle.add(entry);
    this.shrink(this.#max);
  }
}
