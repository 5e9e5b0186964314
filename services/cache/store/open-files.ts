/** Descriptors kept open between requests, so that a hot object costs no open(2). A bounded number; which to close is found by second chance. */
import type { Key } from '../../shared/key.ts';
import type { OpenObject } from './open-object.ts';

export class OpenFiles {
  limit: number;
  readonly #byKey = new Map<Key, OpenObject>();
  readonly #byRow = new Map<number, OpenObject>();

  constructor({ limit }: { limit: number }) {
    this.limit = limit;
  }

  get size(): number {
    return this.#byKey.size;
  }

  get(key: Key): OpenObject | undefined {
    const object = this.#byKey.get(key);
    if (object !== undefined) object.isRecent = true;
    return object;
  }

  ofRow(row: number): OpenObject | undefined {
    return this.#byRow.get(row);
  }

  /** Takes over one reference. The index must hold the object. */
  add(object: OpenObject): void {
    this.remove(this.#byKey.get(object.key));
    this.#byKey.set(object.key, object);
    this.#byRow.set(object.row, object);
    this.shrink(this.limit);
  }

  /** Lets go of a descriptor; it closes when its last reader ends. */
  remove(object: OpenObject | undefined): void {
    if (object === undefined || this.#byKey.get(object.key) !== object) return;
    this.#byKey.delete(object.key);
    this.#byRow.delete(object.row);
    object.release();
  }

  /** Closes what was not used lately. What is being read stays: it must be found when its room is to be freed. */
  shrink(limit: number): void {
    let looks = this.#byKey.size * 2;
    for (const object of this.#byKey.values()) {
      if (this.#byKey.size <= limit || looks === 0) return;
      looks -= 1;
      if (!object.isInUse && (!object.isRecent || limit === 0)) {
        this.remove(object);
        continue;
      }
      object.isRecent = false;
      this.#byKey.delete(object.key);
      this.#byKey.set(object.key, object);
    }
  }
}
