/**
 * Pure: the index of objects, in typed arrays with 39 bytes for each object (digest 12, hash chain 4, bucket 4, LRU links 8, blocks 4, tick
 * 4, group 2, flags 1). A Map is limited to 16.7 million entries, and 8 TB of 110 KB objects are 73 million. The arrays are allocated once
 * for the capacity. The system provides a page at its first use, so nothing is copied. The hash grows by one bucket for each insert (linear
 * hashing), so no insert pauses while it grows.
 */
import { commonPool, Pools } from './pools.ts';

/** No row. Rows start at 1, so that unused memory means `noRow`. */
export const noRow = 0;
export const maxGroups = 65_536;
/** The row came from a snapshot and no scan has seen its file yet. */
export const flagUnconfirmed = 1;
/** The row's file has been read and checked by this process. */
export const flagVerified = 2;
const initialBuckets = 1024;

export interface NewRow {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  /** File size in blocks of 4 KiB, rounded up. */
  readonly blocks: number;
  /** Last access in steps of 100 ms. */
  readonly tick: number;
  readonly group: number;
  readonly flags?: number;
}

/** The index of one shard. The LRU order is exact inside a group, and exact to one tick between groups. */
export class ObjectIndex {
  readonly capacity: number;
  count = 0;
  /** Blocks of all rows. */
  totalBlocks = 0;
  readonly #digests: Uint32Array;
  readonly #chain: Uint32Array;
  readonly #buckets: Uint32Array;
  readonly #newer: Uint32Array;
  readonly #older: Uint32Array;
  readonly #blocks: Uint32Array;
  readonly #ticks: Uint32Array;
  readonly #groups: Uint16Array;
  readonly #flags: Uint8Array;
  readonly #newest = new Uint32Array(maxGroups);
  readonly #oldest = new Uint32Array(maxGroups);
  readonly #counts = new Uint32Array(maxGroups);
  readonly #groupBlocks = new Float64Array(maxGroups);
  readonly pools = new Pools({ groups: maxGroups });
  #nextFresh = 1;
  #freed = noRow;
  /** Buckets in use are `#span + #split`; the first `#split` of them have been split already. */
  #span = initialBuckets;
  #split = 0;
  /** The next row of each walk in progress. */
  readonly #walks = new Set<{ next: number }>();

  constructor({ capacity }: { capacity: number }) {
    this.capacity = capacity;
    const rows = capacity + 1;
    this.#digests = new Uint32Array(rows * 3);
    this.#chain = new Uint32Array(rows);
    this.#buckets = new Uint32Array(rows + initialBuckets);
    this.#newer = new Uint32Array(rows);
    this.#older = new Uint32Array(rows);
    this.#blocks = new Uint32Array(rows);
    this.#ticks = new Uint32Array(rows);
    this.#groups = new Uint16Array(rows);
    this.#flags = new Uint8Array(rows);
  }

  /** Memory of one object including the hash: the size of all arrays, divided by the capacity. */
  get bytesPerObject(): number {
    const arrays = [
      this.#digests,
      this.#chain,
      this.#buckets,
      this.#newer,
      this.#older,
      this.#blocks,
      this.#ticks,
      this.#groups,
      this.#flags,
    ];
    return arrays.reduce((sum, array) => sum + array.byteLength, 0) / this.capacity;
  }

  get isFull(): boolean {
    return this.count >= this.capacity;
  }

  find(a: number, b: number, c: number): number {
    for (let row = this.#buckets[this.#bucketOf(a)] as number; row !== noRow; row = this.#chain[row] as number) {
      const at = row * 3;
      if (this.#digests[at] === a && this.#digests[at + 1] === b && this.#digests[at + 2] === c) return row;
    }
    return noRow;
  }

  /** Adds a row as the newest of its group, or as the oldest. The digest must be absent and the index not full. */
  insert(row: NewRow, place: 'newest' | 'oldest' = 'newest'): number {
    if (this.isFull) throw new RangeError('the index is full');
    const at = this.#takeRow();
    this.#digests[at * 3] = row.a;
    this.#digests[at * 3 + 1] = row.b;
    this.#digests[at * 3 + 2] = row.c;
    const bucket = this.#bucketOf(row.a);
    this.#chain[at] = this.#buckets[bucket] as number;
    this.#buckets[bucket] = at;
    this.#blocks[at] = row.blocks;
    this.#ticks[at] = row.tick;
    this.#flags[at] = row.flags ?? 0;
    this.count += 1;
    this.totalBlocks += row.blocks;
    if (this.count > this.#span + this.#split) this.#splitBucket();
    this.#link(at, row.group, place);
    this.#count(row.group, 1, row.blocks);
    return at;
  }

  remove(row: number): void {
    this.#unlink(row);
    this.#count(this.#groups[row] as number, -1, -(this.#blocks[row] as number));
    const bucket = this.#bucketOf(this.#digests[row * 3] as number);
    const next = this.#chain[row] as number;
    if (this.#buckets[bucket] === row) this.#buckets[bucket] = next;
    else {
      let before = this.#buckets[bucket] as number;
      while (this.#chain[before] !== row) before = this.#chain[before] as number;
      this.#chain[before] = next;
    }
    this.count -= 1;
    this.totalBlocks -= this.#blocks[row] as number;
    this.#chain[row] = this.#freed;
    this.#freed = row;
  }

  /** Makes a row the newest of its group. */
  touch(row: number, tick: number): void {
    this.#ticks[row] = tick;
    const group = this.#groups[row] as number;
    if (this.#newest[group] === row) return;
    this.#unlink(row);
    this.#link(row, group, 'newest');
  }

  /** Moves a row to another group, as its newest or its oldest row. The order inside a group stays the order of the last use. */
  regroup(row: number, group: number): void {
    const blocks = this.#blocks[row] as number;
    this.#unlink(row);
    this.#count(this.#groups[row] as number, -1, -blocks);
    const newest = this.#newest[group] as number;
    const isNewest = newest === noRow || (this.#ticks[row] as number) >= (this.#ticks[newest] as number);
    this.#link(row, group, isNewest ? 'newest' : 'oldest');
    this.#count(group, 1, blocks);
  }

  /** Moves a group with all its objects to another pool. */
  assign(group: number, pool: number): void {
    if (this.pools.of(group) === pool) return;
    this.pools.move(group, pool, { objects: this.groupCount(group), blocks: this.groupBlocks(group) });
    const row = this.oldestOf(group);
    if (row !== noRow) this.pools.heaps.offer(group, pool, this.tick(row));
  }

  resize(row: number, blocks: number): void {
    const change = blocks - (this.#blocks[row] as number);
    this.#blocks[row] = blocks;
    this.totalBlocks += change;
    this.#count(this.#groups[row] as number, 0, change);
  }

  /** The least recently used row of all groups of a pool, or noRow. */
  oldest(pool: number = commonPool): number {
    const heap = this.pools.heaps.of(pool);
    for (let group = heap.top(); group !== undefined; group = heap.top()) {
      const row = this.#oldest[group] as number;
      if (row === noRow) heap.removeTop();
      else if (heap.keyOf(group) < (this.#ticks[row] as number)) heap.raiseTop(this.#ticks[row] as number);
      else return row;
    }
    return noRow;
  }

  oldestOf(group: number): number {
    return this.#oldest[group] as number;
  }

  newestOf(group: number): number {
    return this.#newest[group] as number;
  }

  /**
   * Walks over one group, from the oldest to the newest row. Rows may be touched and removed meanwhile. A row that is touched is returned
   * again at its new place, so a group that is touched faster than it is walked is left after twice its rows.
   */
  *walk(group: number): Generator<number, void> {
    const walk = { next: this.#oldest[group] as number };
    this.#walks.add(walk);
    try {
      for (let left = this.groupCount(group) * 2; walk.next !== noRow && left > 0; left -= 1) {
        const row = walk.next;
        walk.next = this.#newer[row] as number;
        yield row;
      }
    } finally {
      this.#walks.delete(walk);
    }
  }

  /** All fields of a row, to insert it again. */
  row(row: number): NewRow {
    return {
      ...this.digest(row),
      blocks: this.blocks(row),
      tick: this.tick(row),
      group: this.group(row),
      flags: this.#flags[row] as number,
    };
  }

  digest(row: number): { a: number; b: number; c: number } {
    return { a: this.#digests[row * 3] as number, b: this.#digests[row * 3 + 1] as number, c: this.#digests[row * 3 + 2] as number };
  }

  blocks(row: number): number {
    return this.#blocks[row] as number;
  }

  tick(row: number): number {
    return this.#ticks[row] as number;
  }

  group(row: number): number {
    return this.#groups[row] as number;
  }

  groupCount(group: number): number {
    return this.#counts[group] as number;
  }

  groupBlocks(group: number): number {
    return this.#groupBlocks[group] as number;
  }

  hasFlag(row: number, flag: number): boolean {
    return ((this.#flags[row] as number) & flag) !== 0;
  }

  setFlag(row: number, flag: number, isSet: boolean): void {
    const flags = this.#flags[row] as number;
    this.#flags[row] = isSet ? flags | flag : flags & ~flag;
  }

  /** All rows that were ever used are below this number. Removed rows stay in the range. */
  get rowLimit(): number {
    return this.#nextFresh;
  }

  /** Whether a row number below rowLimit holds an object now. */
  isUsed(row: number): boolean {
    return this.find(this.#digests[row * 3] as number, this.#digests[row * 3 + 1] as number, this.#digests[row * 3 + 2] as number) === row;
  }

  #takeRow(): number {
    const row = this.#freed;
    if (row === noRow) return this.#nextFresh++;
    this.#freed = this.#chain[row] as number;
    return row;
  }

  #bucketOf(a: number): number {
    const low = a & (this.#span - 1);
    return low < this.#split ? a & (2 * this.#span - 1) : low;
  }

  /** Moves the rows of one bucket whose next hash bit is set to the new bucket at the end. */
  #splitBucket(): void {
    const low = this.#split;
    const high = low + this.#span;
    let stay: number = noRow;
    let move: number = noRow;
    for (let row = this.#buckets[low] as number; row !== noRow; ) {
      const next = this.#chain[row] as number;
      if (((this.#digests[row * 3] as number) & this.#span) === 0) {
        this.#chain[row] = stay;
        stay = row;
      } else {
        this.#chain[row] = move;
        move = row;
      }
      row = next;
    }
    this.#buckets[low] = stay;
    this.#buckets[high] = move;
    this.#split += 1;
    if (this.#split < this.#span) return;
    this.#span *= 2;
    this.#split = 0;
  }

  #link(row: number, group: number, place: 'newest' | 'oldest'): void {
    this.#groups[row] = group;
    const isNewest = place === 'newest';
    const ends = isNewest ? this.#newest : this.#oldest;
    const inward = isNewest ? this.#older : this.#newer;
    const outward = isNewest ? this.#newer : this.#older;
    const neighbour = ends[group] as number;
    inward[row] = neighbour;
    outward[row] = noRow;
    ends[group] = row;
    // A row that joins as the oldest is at least as old as the previous oldest row.
    if (!isNewest && neighbour !== noRow) this.#ticks[row] = Math.min(this.#ticks[row] as number, this.#ticks[neighbour] as number);
    if (neighbour !== noRow) outward[neighbour] = row;
    else (isNewest ? this.#oldest : this.#newest)[group] = row;
    if (this.#oldest[group] === row) this.pools.heaps.offer(group, this.pools.of(group), this.#ticks[row] as number);
  }

  #unlink(row: number): void {
    if (this.#walks.size > 0) for (const walk of this.#walks) if (walk.next === row) walk.next = this.#newer[row] as number;
    const group = this.#groups[row] as number;
    const newer = this.#newer[row] as number;
    const older = this.#older[row] as number;
    if (newer === noRow) this.#newest[group] = older;
    else this.#older[newer] = older;
    if (older === noRow) this.#oldest[group] = newer;
    else this.#newer[older] = newer;
  }

  #count(group: number, objects: number, blocks: number): void {
    this.#counts[group] = (this.#counts[group] as number) + objects;
    this.#groupBlocks[group] = (this.#groupBlocks[group] as number) + blocks;
    this.pools.count(group, { objects, blocks });
  }
}
