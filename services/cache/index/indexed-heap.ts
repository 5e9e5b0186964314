/** Pure: a min-heap of small numbers by key. It stores the position of each number, so that a key changes in logarithmic time. */

export interface HeapStorage {
  readonly keys: Float64Array;
  readonly places: Uint32Array;
}

export class IndexedHeap {
  readonly #numbers: number[] = [];
  readonly #keys: Float64Array;
  /** Position + 1 of a number in the heap; 0 = absent. */
  readonly #places: Uint32Array;

  /** Heaps may share a storage if no number is in two of them. */
  constructor(storage: HeapStorage) {
    this.#keys = storage.keys;
    this.#places = storage.places;
  }

  top(): number | undefined {
    return this.#numbers[0];
  }

  keyOf(number: number): number {
    return this.#keys[number] as number;
  }

  /** Adds a number, or lowers the key of a present number. A larger key is ignored then (see `raiseTop`). */
  offer(number: number, key: number): void {
    if (this.#places[number] !== 0 && (this.#keys[number] as number) <= key) return;
    this.set(number, key);
  }

  /** Adds a number, or changes the key of a present number. */
  set(number: number, key: number): void {
    this.#keys[number] = key;
    if (this.#places[number] === 0) this.#places[number] = this.#numbers.push(number);
    this.#settle(number);
  }

  raiseTop(key: number): void {
    this.#keys[this.#numbers[0] as number] = key;
    this.#sink(0);
  }

  removeTop(): void {
    this.remove(this.#numbers[0] as number);
  }

  /** Removes a number. It must be in this heap or in no heap. */
  remove(number: number): void {
    const place = this.#places[number] as number;
    if (place === 0) return;
    this.#places[number] = 0;
    const last = this.#numbers.pop() as number;
    if (last === number) return;
    this.#put(place - 1, last);
    this.#settle(last);
  }

  #settle(number: number): void {
    this.#rise((this.#places[number] as number) - 1);
    this.#sink((this.#places[number] as number) - 1);
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
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < this.#numbers.length; child += 1)
        if (this.#isBefore(child, least)) least = child;
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #isBefore(one: number, other: number): boolean {
    return (this.#keys[this.#numbers[one] as number] as number) < (this.#keys[this.#numbers[other] as number] as number);
  }

  #swap(one: number, other: number): void {
    const held = this.#numbers[one] as number;
    this.#put(one, this.#numbers[other] as number);
    this.#put(other, held);
  }

  #put(at: number, number: number): void {
    this.#numbers[at] = number;
    this.#places[number] = at + 1;
  }
}

/** Storage for the numbers 0 to `size` - 1. */
export function heapStorage(size: number): HeapStorage {
  return { keys: new Float64Array(size), places: new Uint32Array(size) };
}
