/** Pure: which object goes when room is needed. */
import { PooledHeaps } from './group-heap.ts';
import type { Groups } from './groups.ts';
import { noRow, type ObjectIndex } from './object-index.ts';
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

/** What is known of one data set, which is all groups with one prefix. */
interface PrefixUse {
  lastUse: number;
  /** Longest time between two uses of one sampled key, in this span and in the one before. */
  longest: number;
  longestBefore: number;
  spanStart: number;
}

/** One key in 64 is watched, fewer when the table is full: enough for the longest of some hundred intervals. */
const firstMask = 63;
const maxSamples = 65_536;
const maxPrefixes = 65_536;
/** The longest interval of a sample is a little shorter than that of all. */
const guardFactor = 1.15;
/** A data set that is being read is read all the time: silence for this part of its guard time says that nobody reads it. */
const silentPart = 1 / 48;
/** No data set is given up for a pause shorter than this (5 s). */
const minSilence = 50;
/** How often all groups are looked through for what may go. */
const lookEvery = 10;

/**
 * For training data: an object that is read once an epoch is worth keeping until it is read again, so the least recently used goes only when it has been idle for
 * longer than its data set's guard time, and data sets that nobody reads go first. The guard time is learnt from a hash sample of the keys,
 * misses included: learnt from hits alone it collapses.
 */
export class DatasetEviction implements EvictionPolicy {
  readonly #index: ObjectIndex;
  readonly #groups: Groups;
  readonly #prefixes = new Map<string, PrefixUse>();
  readonly #ofGroup: { name: object; use: PrefixUse }[] = [];
  readonly #samples = new Map<number, number>();
  #mask = firstMask;
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** Groups whose oldest may go, those that nobody reads apart. */
  readonly #silent = new PooledHeaps();
  readonly #overdue = new PooledHeaps();

  constructor(index: ObjectIndex, groups: Groups) {
    this.#index = index;
    this.#groups = groups;
  }

  read(row: number, tick: number): void {
    const use = this.#useOf(this.#index.group(row), tick);
    use.lastUse = tick;
    this.#sample(use, this.#index.digest(row), tick);
  }

  missed(prefix: string, digest: { readonly b: number; readonly c: number }, tick: number): void {
    const use = this.#prefixUse(prefix, tick);
    use.lastUse = tick;
    this.#sample(use, digest, tick);
  }

  victim(tick: number, pool: number = commonPool): number {
    if (tick - this.#lookedAt >= lookEvery) this.#look(tick);
    const row = this.#topOf(this.#silent, pool, (group) => this.#isSilent(group, tick));
    if (row !== noRow) return row;
    return this.#topOf(this.#overdue, pool, (group) => this.#isOverdue(group, tick));
  }

  #look(tick: number): void {
    this.#lookedAt = tick;
    this.#silent.clear();
    this.#overdue.clear();
    for (let group = 0; group < this.#groups.size; group += 1) {
      const row = this.#index.oldestOf(group);
      if (row === noRow) continue;
      const pool = this.#index.pools.of(group);
      if (this.#isSilent(group, tick)) this.#silent.of(pool).offer(group, this.#useOf(group, tick).lastUse);
      else if (this.#isOverdue(group, tick)) this.#overdue.of(pool).offer(group, this.#index.tick(row));
    }
  }

  /** The oldest row of the first group for which the condition still holds. */
  #topOf(heaps: PooledHeaps, pool: number, holds: (group: number) => boolean): number {
    const heap = heaps.of(pool);
    for (let group = heap.top(); group !== undefined; group = heap.top()) {
      const row = this.#index.oldestOf(group);
      if (row !== noRow && this.#index.pools.of(group) === pool && holds(group)) {
        const tick = this.#index.tick(row);
        if (heaps === this.#silent || heap.keyOf(group) >= tick) return row;
        heap.raiseTop(tick);
      } else heap.removeTop();
    }
    return noRow;
  }

  #isSilent(group: number, tick: number): boolean {
    const use = this.#useOf(group, tick);
    return tick - use.lastUse > Math.max(minSilence, guard(use) * silentPart);
  }

  #isOverdue(group: number, tick: number): boolean {
    const row = this.#index.oldestOf(group);
    return row !== noRow && tick - this.#index.tick(row) >= guard(this.#useOf(group, tick));
  }

  #useOf(group: number, tick: number): PrefixUse {
    const name = this.#groups.name(group) ?? { namespace: '', prefix: '' };
    const known = this.#ofGroup[group];
    if (known !== undefined && known.name === name) return known.use;
    const use = this.#prefixUse(name.prefix, tick);
    this.#ofGroup[group] = { name, use };
    return use;
  }

  #prefixUse(prefix: string, tick: number): PrefixUse {
    const known = this.#prefixes.get(prefix);
    if (known !== undefined) return known;
    if (this.#prefixes.size >= maxPrefixes) this.#prefixes.delete(this.#prefixes.keys().next().value as string);
    const use = { lastUse: tick, longest: 0, longestBefore: 0, spanStart: tick };
    this.#prefixes.set(prefix, use);
    return use;
  }

  #sample(use: PrefixUse, { b, c }: { readonly b: number; readonly c: number }, tick: number): void {
    if ((c & this.#mask) !== 0) return;
    const key = b * 4096 + (c >>> 20);
    const before = this.#samples.get(key);
    this.#samples.set(key, tick);
    if (before === undefined) {
      if (this.#samples.size > maxSamples) this.#thin();
      return;
    }
    const longestKnown = Math.max(use.longest, use.longestBefore);
    // A span is long enough for the longest interval to be met again; what was not met in two spans is forgotten.
    if (tick - use.spanStart > 4 * longestKnown && longestKnown > 0) {
      use.longestBefore = use.longest;
      use.longest = 0;
      use.spanStart = tick;
    }
    use.longest = Math.max(use.longest, tick - before);
  }

  /** Halves the sample: the keys that were seen longest ago go. */
  #thin(): void {
    for (const key of this.#samples.keys()) {
      if (this.#samples.size <= maxSamples / 2) break;
      this.#samples.delete(key);
    }
    this.#mask = this.#mask * 2 + 1;
  }
}

function guard(use: PrefixUse): number {
  return Math.ceil(Math.max(use.longest, use.longestBefore) * guardFactor);
}
