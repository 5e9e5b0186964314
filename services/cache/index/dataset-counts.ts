/**
 * Pure: counts reads and evictions by data set, which is all groups with one prefix. Counts begin at 0 with each process.
 *
 * A data set has counts while a group has its prefix, so groups.ts bounds their number. Reads of all other keys count together. Otherwise, a
 * client that reads random keys could drop the counts of data sets.
 */
import { othersPrefix } from './groups.ts';

export interface DatasetCounts {
  /** Reads of stored objects. */
  hits: number;
  /** Reads of keys that were not stored. */
  misses: number;
  evictedObjects: number;
  evictedBytes: number;
}

interface Counted extends DatasetCounts {
  readonly prefix: string;
  /** Groups with this prefix. */
  groups: number;
}

export class DatasetCounters {
  /** Objects without a data set, and misses of data sets that have no group. */
  readonly others: DatasetCounts = noCounts();
  readonly #byPrefix = new Map<string, Counted>();
  /** By group number. */
  readonly #byGroup: (Counted | undefined)[] = [];

  /** Call it for every group that gets a name. A group that had another name leaves its data set. */
  name(group: number, prefix: string): void {
    const before = this.#byGroup[group];
    const counted = prefix === othersPrefix ? undefined : (this.#byPrefix.get(prefix) ?? { ...noCounts(), prefix, groups: 0 });
    if (counted !== undefined) {
      counted.groups += 1;
      this.#byPrefix.set(prefix, counted);
    }
    this.#byGroup[group] = counted;
    if (before === undefined) return;
    before.groups -= 1;
    if (before.groups === 0) this.#byPrefix.delete(before.prefix);
  }

  /** The data set of a group; undefined for a group without one. */
  of(group: number): Readonly<Counted> | undefined {
    return this.#byGroup[group];
  }

  hit(group: number): void {
    this.#ofGroup(group).hits += 1;
  }

  missed(prefix: string): void {
    (this.#byPrefix.get(prefix) ?? this.others).misses += 1;
  }

  evicted(group: number, bytes: number): void {
    const counts = this.#ofGroup(group);
    counts.evictedObjects += 1;
    counts.evictedBytes += bytes;
  }

  #ofGroup(group: number): DatasetCounts {
    return this.#byGroup[group] ?? this.others;
  }
}

function noCounts(): DatasetCounts {
  return { hits: 0, misses: 0, evictedObjects: 0, evictedBytes: 0 };
}
