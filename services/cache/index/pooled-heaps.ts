/** Pure: a heap of groups for each pool (shares.ts), in one shared storage. */
import { type HeapStorage, heapStorage, IndexedHeap } from './indexed-heap.ts';

/**
 * A group is in at most one of the heaps. A key may be too small, because a touch or a removal of the oldest object only increases the
 * correct key of its group. The owner corrects a key when it is at the top (`raiseTop`), so a touch costs nothing here.
 */
export class PooledHeaps {
  readonly #storage: HeapStorage;
  readonly #heaps: IndexedHeap[] = [];
  readonly #poolOf: Uint16Array;

  constructor({ groups }: { groups: number }) {
    this.#storage = heapStorage(groups);
    this.#poolOf = new Uint16Array(groups);
  }

  of(pool: number): IndexedHeap {
    let heap = this.#heaps[pool];
    if (heap === undefined) {
      heap = new IndexedHeap(this.#storage);
      this.#heaps[pool] = heap;
    }
    return heap;
  }

  /** Adds a group to the heap of a pool, or lowers its key there. */
  offer(group: number, pool: number, key: number): void {
    if (this.#poolOf[group] !== pool) this.remove(group);
    this.#poolOf[group] = pool;
    this.of(pool).offer(group, key);
  }

  remove(group: number): void {
    this.of(this.#poolOf[group] as number).remove(group);
  }
}
