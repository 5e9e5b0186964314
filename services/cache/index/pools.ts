/** Pure: the pool of each group (shares.ts), the content of each pool, and the pool that uses most of its share. */
import { heapStorage, IndexedHeap } from './indexed-heap.ts';
import { PooledHeaps } from './pooled-heaps.ts';
import { fileBlockBytes, type Room } from './space.ts';

/** The pool of all groups that belong to no other pool. */
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
  /** Room of uploads in progress. */
  readonly #uploadingBytes = new Float64Array(maxPools);
  /** 0 for a pool without a share. */
  readonly #shares = new Float64Array(maxPools);
  /** The groups of each pool, by the tick of their oldest object. */
  readonly heaps: PooledHeaps;
  /**
   * Pools that have a share and objects, the fullest first: by bytes and by objects, each divided by the share. Two heaps, so that their
   * order does not depend on the room, which changes at any time.
   */
  readonly #byBytes = new IndexedHeap(heapStorage(maxPools));
  readonly #byObjects = new IndexedHeap(heapStorage(maxPools));

  constructor({ groups }: { groups: number }) {
    this.#ofGroup = new Uint16Array(groups);
    this.heaps = new PooledHeaps({ groups });
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

  /** Adds objects and blocks to a group. Negative numbers remove them. */
  count(group: number, amount: Amount): void {
    this.#add(this.of(group), amount.objects, amount.blocks);
  }

  /** Moves a group with its content to another pool, and removes it from its heap. */
  move(group: number, pool: number, held: Amount): void {
    this.heaps.remove(group);
    this.#add(this.of(group), -held.objects, -held.blocks);
    this.#ofGroup[group] = pool;
    this.#add(pool, held.objects, held.blocks);
  }

  /** 0 removes the share and resets the room of uploads in progress. */
  setShare(pool: number, share: number): void {
    this.#shares[pool] = share;
    if (share === 0) this.#uploadingBytes[pool] = 0;
    this.#sort(pool);
  }

  /** Adds room of uploads in progress. A negative number removes it. */
  addUploading(pool: number, bytes: number): void {
    this.#uploadingBytes[pool] = (this.#uploadingBytes[pool] as number) + bytes;
    this.#sort(pool);
  }

  /** The part of its share that a pool uses, with `moreBytes` more. Above 1 it is over its share. */
  fill(pool: number, room: Room, moreBytes = 0): number {
    const ofBytes = (this.#bytes(pool) + moreBytes) / room.bytes;
    return Math.max(ofBytes, this.objects(pool) / room.files) / (this.#shares[pool] as number);
  }

  /** The pool that uses most of its share; undefined if no pool has a share and objects. */
  fullest(room: Room): number | undefined {
    const byBytes = this.#byBytes.top();
    const byObjects = this.#byObjects.top();
    if (byBytes === undefined || byObjects === undefined) return undefined;
    return this.fill(byBytes, room) >= this.fill(byObjects, room) ? byBytes : byObjects;
  }

  #bytes(pool: number): number {
    return this.blocks(pool) * fileBlockBytes + (this.#uploadingBytes[pool] as number);
  }

  #add(pool: number, objects: number, blocks: number): void {
    this.#objects[pool] = (this.#objects[pool] as number) + objects;
    this.#blocks[pool] = (this.#blocks[pool] as number) + blocks;
    this.#sort(pool);
  }

  #sort(pool: number): void {
    const share = this.#shares[pool] as number;
    if (share === 0 || this.objects(pool) === 0) {
      this.#byBytes.remove(pool);
      this.#byObjects.remove(pool);
    } else {
      this.#byBytes.set(pool, -this.#bytes(pool) / share);
      this.#byObjects.set(pool, -this.objects(pool) / share);
    }
  }
}
