/** Pure: which object goes when room is needed. */
import { DatasetUses, guardOf, keysOf } from './dataset-uses.ts';
import type { Groups } from './groups.ts';
import { maxGroups, noRow, type ObjectIndex } from './object-index.ts';
import { PooledHeaps } from './pooled-heaps.ts';
import { commonPool } from './pools.ts';

/** Time is in steps of recency (clock.ts). */
export interface EvictionPolicy {
  /** The row of a pool to give up, or noRow when all that is stored in it is worth more than what wants in. */
  victim(tick: number, pool?: number): number;
  /** A stored object was read; called before the index is told. */
  read(row: number, tick: number): void;
  /** Somebody asked for an object that is not stored. */
  missed(prefix: string, digest: { readonly b: number; readonly c: number }, tick: number): void;
}

/** The least recently used goes: what the original system promises. */
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
 * A data set that is being read is read all the time: silence for this part of its guard time, about two epochs, says that nobody reads it. A data set with few keys on
 * this shard is read rarely, once in each `epoch / keys`: its silence must be as long as eight such pauses.
 */
const silentPart = 1 / 48;
const silentKeys = 4;
/** No data set is given up for a pause shorter than this (5 s). */
const minSilence = 50;
/** Least time between the starts of two passes over the groups. */
const passEvery = 10;
/** Groups looked at in one call, so that no PUT waits for a pass over 65,536 of them. */
const maxGroupsPerLook = 512;

/**
 * For training data: an object that is read once an epoch is worth keeping until it is read again. So the least recently used goes only when it has been idle for
 * longer than its data set's guard time (dataset-uses.ts), and data sets that nobody reads go first. Objects that belong to no data set are kept as by LRU: their
 * guard time is 0.
 */
export class DatasetEviction implements EvictionPolicy {
  readonly #index: ObjectIndex;
  readonly #groups: Groups;
  readonly #uses = new DatasetUses();
  #passStartedAt = Number.NEGATIVE_INFINITY;
  /** The group that the pass looks at next. */
  #lookAt = 0;
  /** Groups whose oldest may go, those that nobody reads apart. What changed since the pass is found when a group surfaces. */
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
    this.#look(tick);
    const row = this.#topOf(this.#silent, pool, (group) => this.#silentSince(group, tick));
    if (row !== noRow) return row;
    return this.#topOf(this.#overdue, pool, (group) => this.#overdueSince(group, tick));
  }

  /** Takes a pass over the groups some of them further. */
  #look(tick: number): void {
    if (this.#lookAt >= this.#groups.size) {
      if (tick - this.#passStartedAt < passEvery) return;
      this.#lookAt = 0;
    }
    if (this.#lookAt === 0) this.#passStartedAt = tick;
    const end = Math.min(this.#lookAt + maxGroupsPerLook, this.#groups.size);
    for (let group = this.#lookAt; group < end; group += 1) {
      const pool = this.#index.pools.of(group);
      const silentSince = this.#silentSince(group, tick);
      const overdueSince = silentSince === undefined ? this.#overdueSince(group, tick) : undefined;
      if (silentSince !== undefined) this.#silent.offer(group, pool, silentSince);
      else if (overdueSince !== undefined) this.#overdue.offer(group, pool, overdueSince);
    }
    this.#lookAt = end;
  }

  /** The oldest row of the first group that still has a key. */
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

  /** When a group that nobody reads was last read; undefined for one that is read, or empty. */
  #silentSince(group: number, tick: number): number | undefined {
    const row = this.#index.oldestOf(group);
    if (row === noRow) return undefined;
    if (!this.#groups.isDataSet(group)) return tick - this.#index.tick(row) > minSilence ? this.#index.tick(row) : undefined;
    const use = this.#uses.of(this.#prefix(group), tick);
    const part = Math.max(silentPart, Math.min(1, silentKeys / keysOf(use)));
    return tick - use.lastUse > Math.max(minSilence, guardOf(use) * part) ? use.lastUse : undefined;
  }

  /** When the oldest of a group was last read, if that is longer ago than the guard time. */
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
