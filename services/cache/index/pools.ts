/** Pure: to which pool each group belongs (shares.ts), and what each pool holds. */
import { PooledHeaps } from './group-heap.ts';

/** The pool of all groups that belong to no other. */
export const commonPool = 0;
export const maxPools = 1024;

interface Amount {
  readonly objects: number;
  readonly blocks: number;
}

export class Pools {
  readonly #ofGroup: Uint16Array;
  readonly #objects = new Uint32Array(maxPools);
  readonly #blocks = new Float64Array(maxPools);
  /** Of each pool's groups, by the tick of their oldest. */
  readonly heaps = new PooledHeaps();

  constructor({ groups }: { groups: number }) {
    this.#ofGroup = new Uint16Array(groups);
  }

  of(group: number): number {
    return this.#ofGroup[group] as number;
  }

  objects(pool: number): number {
    return this.#objects[pool] as number;
  }

  blocks(pool: number): number {
    return this.#blocks[pool] as number;
  }

  /** Counts what came to a group, or with negative numbers what went. */
  count(group: number, amount: Amount): void {
    this.#add(this.of(group), amount.objects, amount.blocks);
  }

  /** Puts a group with all that it holds into another pool. Its place in a heap is lost. */
  move(group: number, pool: number, held: Amount): void {
    const before = this.of(group);
    this.heaps.of(before).remove(group);
    this.#add(before, -held.objects, -held.blocks);
    this.#ofGroup[group] = pool;
    this.#add(pool, held.objects, held.blocks);
  }

  #add(pool: number, objects: number, blocks: number): void {
    this.#objects[pool] = (this.#objects[pool] as number) + objects;
    this.#blocks[pool] = (this.#blocks[pool] as number) + blocks;
  }
}
