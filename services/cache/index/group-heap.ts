/** Pure: a heap of groups by the tick of each one's oldest object, so that the oldest of all is found without a scan. */

interface HeapStorage {
  readonly keys: Float64Array;
  readonly places: Uint32Array;
}

/** One heap for each pool (shares.ts), on one storage: a group is in at most one of them. */
export class PooledHeaps {
  readonly #storage = heapStorage();
  readonly #heaps: GroupHeap[] = [];

  of(pool: number): GroupHeap {
    let heap = this.#heaps[pool];
    if (heap === undefined) {
      heap = new GroupHeap(this.#storage);
      this.#heaps[pool] = heap;
    }
    return heap;
  }

  clear(): void {
    for (const heap of this.#heaps) heap?.clear();
  }
}

/**
 * Keys may lag behind: an oldest object that is touched or removed only makes its group's true key larger, so the owner corrects a key when it surfaces
 * (`raiseTop`) and a touch costs nothing here.
 */
class GroupHeap {
  readonly #groups: number[] = [];
  readonly #keys: Float64Array;
  /** Position + 1 of a group in the heap; 0 = absent. */
  readonly #places: Uint32Array;

  constructor(storage: HeapStorage = heapStorage()) {
    this.#keys = storage.keys;
    this.#places = storage.places;
  }

  top(): number | undefined {
    return this.#groups[0];
  }

  clear(): void {
    for (const group of this.#groups) this.#places[group] = 0;
    this.#groups.length = 0;
  }

  keyOf(group: number): number {
    return this.#keys[group] as number;
  }

  /** Adds a group, or lowers the key of one that is present. A larger key for a present group is left to `raiseTop`. */
  offer(group: number, key: number): void {
    const place = this.#places[group] as number;
    if (place !== 0 && (this.#keys[group] as number) <= key) return;
    this.#keys[group] = key;
    if (place === 0) this.#places[group] = this.#groups.push(group);
    this.#rise((this.#places[group] as number) - 1);
  }

  raiseTop(key: number): void {
    this.#keys[this.#groups[0] as number] = key;
    this.#sink(0);
  }

  removeTop(): void {
    this.remove(this.#groups[0] as number);
  }

  /** Takes a group out that is in this heap or in none. */
  remove(group: number): void {
    const place = this.#places[group] as number;
    if (place === 0) return;
    this.#places[group] = 0;
    const last = this.#groups.pop() as number;
    if (last === group) return;
    this.#put(place - 1, last);
    this.#rise(place - 1);
    this.#sink((this.#places[last] as number) - 1);
  }

  #rise(from: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(from: number): void {
    let at = from;
    for (;;) {
      let least = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < this.#groups.length; child += 1)
        if (this.#isBefore(child, least)) least = child;
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #isBefore(one: number, other: number): boolean {
    return (this.#keys[this.#groups[one] as number] as number) < (this.#keys[this.#groups[other] as number] as number);
  }

  #swap(one: number, other: number): void {
    const held = this.#groups[one] as number;
    this.#put(one, this.#groups[other] as number);
    this.#put(other, held);
  }

  #put(at: number, group: number): void {
    this.#groups[at] = group;
    this.#places[group] = at + 1;
  }
}

function heapStorage(): HeapStorage {
  return { keys: new Float64Array(65_536), places: new Uint32Array(65_536) };
}
