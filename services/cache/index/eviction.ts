/** Pure: selects the object to evict when room is needed. */
import { DatasetUses, guardOf, keysOf } from './dataset-uses.ts';
import type { Groups } from './groups.ts';
import { maxGroups, noRow, type ObjectIndex } from './object-index.ts';
import { PooledHeaps } from './pooled-heaps.ts';
import { commonPool } from './pools.ts';

/** Time is in steps of recency (clock.ts). */
export interface EvictionPolicy {
  /** The row of a pool to evict, or noRow if all objects of the pool are worth more than a new object. */
  victim(tick: number, pool?: number): number;
  /** Records a read of a stored object. Call it before `index.touch`. */
  read(row: number, tick: number): void;
  /** Records a read of an object that is not stored. */
  missed(prefix: string, digest: { readonly b: number; readonly c: number }, tick: number): void;
}

/** Evicts the least recently used object. */
export class LruEviction implements EvictionPolicy {
  readonly #index: ObjectIndex;

  constructor(index: ObjectIndex) {
    this.#index = index;
  }

  victim(_tick: number, pool: number = commonPool): number {
    return this.#index.oldest(pool);
  }

  read(): void {}

  missed(): void {}
}

/**
 * A data set in use is read continuously. After a silence of this part of its guard time (about two epochs), it counts as not in use. A
 * data set with few keys on this shard is read once in each `epoch / keys`, so its silence must be as long as eight such intervals.
 */
const silentPart = 1 / 48;
const silentKeys = 4;
/** A data set without reads for less than this time (5 s) counts as in use. */
const minSilence = 50;
/** Least time between the starts of two passes over the groups. */
const passEvery = 10;
/** Groups that one call checks, so that no PUT waits for a pass over all 65,536. */
const maxGroupsPerCall = 512;

/**
 * For training data: an object that is read once an epoch is kept until it is read again. Objects of data sets without readers are evicted
 * first. After them, the least recently used object is evicted only if it was idle for longer than the guard time of its data set
 * (dataset-uses.ts). Objects without a data set have a guard time of 0, so they are evicted as by LRU.
 */
export class DatasetEviction implements EvictionPolicy {
  readonly #index: ObjectIndex;
  readonly #groups: Groups;
  readonly #uses = new DatasetUses();
  #passStartedAt = Number.NEGATIVE_INFINITY;
  /** The next group of the pass. */
  #passAt = 0;
  /** Groups whose oldest object may be evicted. Those without readers have their own heap. A key may be outdated until it is at the top. */
  readonly #silent = new PooledHeaps({ groups: maxGroups });
  readonly #overdue = new PooledHeaps({ groups: maxGroups });

  constructor(index: ObjectIndex, groups: Groups) {
    this.#index = index;
    this.#groups = groups;
  }

  read(row: number, tick: number): void {
    const group = this.#index.group(row);
    if (this.#groups.isDataSet(group)) this.#uses.record(this.#prefix(group), this.#index.digest(row), tick);
  }

  missed(prefix: string, digest: { readonly b: number; readonly c: number }, tick: number): void {
    this.#uses.record(prefix, digest, tick);
  }

  victim(tick: number, pool: number = commonPool): number {
    this.#continuePass(tick);
    const row = this.#topOf(this.#silent, pool, (group) => this.#silentSince(group, tick));
    if (row !== noRow) return row;
    return this.#topOf(this.#overdue, pool, (group) => this.#overdueSince(group, tick));
  }

  /** Checks the next groups of the pass over all groups. */
  #continuePass(tick: number): void {
    if (this.#passAt >= this.#groups.size) {
      if (tick - this.#passStartedAt < passEvery) return;
      this.#passAt = 0;
    }
    if (this.#passAt === 0) this.#passStartedAt = tick;
    const end = Math.min(this.#passAt + maxGroupsPerCall, this.#groups.size);
    for (let group = this.#passAt; group < end; group += 1) {
      const pool = this.#index.pools.of(group);
      const silentSince = this.#silentSince(group, tick);
      const overdueSince = silentSince === undefined ? this.#overdueSince(group, tick) : undefined;
      if (silentSince !== undefined) this.#silent.offer(group, pool, silentSince);
      else if (overdueSince !== undefined) this.#overdue.offer(group, pool, overdueSince);
    }
    this.#passAt = end;
  }

  /** The oldest row of the first group for which `keyOf` still returns a key. */
  #topOf(heaps: PooledHeaps, pool: number, keyOf: (group: number) => number | undefined): number {
    const heap = heaps.of(pool);
    for (let group = heap.top(); group !== undefined; group = heap.top()) {
      const key = this.#index.pools.of(group) === pool ? keyOf(group) : undefined;
      if (key === undefined) heap.removeTop();
      else if (heap.keyOf(group) < key) heap.raiseTop(key);
      else return this.#index.oldestOf(group);
    }
    return noRow;
  }

  /** The last read of a group without readers; undefined for a group that has readers or is empty. */
  #silentSince(group: number, tick: number): number | undefined {
    const row = this.#index.oldestOf(group);
    if (row === noRow) return undefined;
    if (!this.#groups.isDataSet(group)) return tick - this.#index.tick(row) > minSilence ? this.#index.tick(row) : undefined;
    const use = this.#uses.of(this.#prefix(group), tick);
    const part = Math.max(silentPart, Math.min(1, silentKeys / keysOf(use)));
    return tick - use.lastUse > Math.max(minSilence, guardOf(use) * part) ? use.lastUse : undefined;
  }

  /** The last read of the oldest object of a group, if it is longer ago than the guard time. */
  #overdueSince(group: number, tick: number): number | undefined {
    const row = this.#index.oldestOf(group);
    if (row === noRow) return undefined;
    const since = this.#index.tick(row);
    const guard = this.#groups.isDataSet(group) ? guardOf(this.#uses.of(this.#prefix(group), tick)) : 0;
    return tick - since >= guard ? since : undefined;
  }

  #prefix(group: number): string {
    return this.#groups.name(group)?.prefix ?? '';
  }
}
