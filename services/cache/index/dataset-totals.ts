/** Pure: what is stored under a prefix, by data set. A data set is all groups with one prefix, of all namespaces that wrote to it. */
import type { Key } from '../../shared/key.ts';
import type { DatasetCounters, DatasetCounts } from './dataset-counts.ts';
import { type Groups, othersPrefix, prefixOf } from './groups.ts';
import { noRow, type ObjectIndex } from './object-index.ts';
import { fileBlockBytes } from './space.ts';

export interface DatasetUse extends DatasetCounts {
  readonly prefix: string;
  objects: number;
  /** In blocks of 4 KiB. */
  bytes: number;
  /** The last use of a stored object, as a step of the clock. Undefined without objects. */
  lastTick: number | undefined;
}

interface Datasets {
  readonly index: ObjectIndex;
  readonly groups: Groups;
  readonly datasets: DatasetCounters;
}

interface DatasetTotals {
  readonly total: DatasetUse;
  /** The data sets with objects, the largest first. After `maxChildren`, the rest is one sum with the name `(others)`. */
  readonly children: readonly DatasetUse[];
  /** False if further objects under the prefix may be stored: their data set is not known, or only a part of it is under the prefix. */
  readonly isWhole: boolean;
}

/** Adds up the groups under a prefix, which is empty or ends with a slash. 65,536 groups take a few milliseconds. */
export function datasetTotals(parts: Datasets, prefix: string, maxChildren: number): DatasetTotals {
  const uses = datasetUses(parts, prefix);
  const total = noUse(prefix);
  for (const use of uses.values()) add(total, use);
  const stored = [...uses.values()].filter(({ objects }) => objects > 0).sort((one, other) => other.bytes - one.bytes);
  const rest = noUse(othersPrefix);
  for (const use of stored.slice(maxChildren)) add(rest, use);
  const isWhole = prefix === '' || (isDataSetOrAbove(prefix) && !hasNamelessObjects(parts));
  return { total, children: rest.objects === 0 ? stored : [...stored.slice(0, maxChildren), rest], isWhole };
}

/** By prefix. Without a prefix, the objects without a data set are one sum with the name `(others)`. */
function datasetUses({ index, groups, datasets }: Datasets, prefix = ''): Map<string, DatasetUse> {
  const uses = new Map<string, DatasetUse>();
  for (let group = 0; group < groups.size; group += 1) {
    const name = groups.isDataSet(group) ? (groups.name(group)?.prefix ?? othersPrefix) : othersPrefix;
    if (name === othersPrefix ? prefix !== '' : !name.startsWith(prefix)) continue;
    let use = uses.get(name);
    if (use === undefined) {
      use = { ...noUse(name), ...(name === othersPrefix ? datasets.others : countsOf(datasets.of(name))) };
      uses.set(name, use);
    }
    const newest = index.newestOf(group);
    use.objects += index.groupCount(group);
    use.bytes += index.groupBlocks(group) * fileBlockBytes;
    if (newest !== noRow) use.lastTick = Math.max(use.lastTick ?? 0, index.tick(newest));
  }
  return uses;
}

/**
 * The groups that may have objects under a prefix. Groups without a prefix come first: a row can move from these to the others, so that a
 * walk over all groups in this order returns it.
 */
export function groupsUnder(groups: Groups, prefix: string): number[] {
  const own = isDataSetOrAbove(prefix) ? undefined : prefixOf(`${prefix}x` as Key);
  const nameless: number[] = [];
  const named: number[] = [];
  for (let group = 0; group < groups.size; group += 1) {
    const name = groups.name(group)?.prefix;
    if (name === undefined || !groups.isDataSet(group)) nameless.push(group);
    else if (own === undefined ? name.startsWith(prefix) : name === own) named.push(group);
  }
  return [...nameless, ...named];
}

/** Whether no group can have objects both under the prefix and beside it. */
function isDataSetOrAbove(prefix: string): boolean {
  return prefixOf(`${prefix}x` as Key) === prefix;
}

/** Whether the shard has objects of which it does not know the data set. */
function hasNamelessObjects({ index, groups }: Datasets): boolean {
  for (let group = 0; group < groups.size; group += 1) if (!groups.isDataSet(group) && index.groupCount(group) > 0) return true;
  return false;
}

function add(sum: DatasetUse, use: DatasetUse): void {
  sum.objects += use.objects;
  sum.bytes += use.bytes;
  sum.hits += use.hits;
  sum.misses += use.misses;
  sum.evictedObjects += use.evictedObjects;
  sum.evictedBytes += use.evictedBytes;
  if (use.lastTick !== undefined) sum.lastTick = Math.max(sum.lastTick ?? 0, use.lastTick);
}

function countsOf({ hits, misses, evictedObjects, evictedBytes }: Readonly<DatasetCounts>): DatasetCounts {
  return { hits, misses, evictedObjects, evictedBytes };
}

function noUse(prefix: string): DatasetUse {
  return { prefix, objects: 0, bytes: 0, hits: 0, misses: 0, evictedObjects: 0, evictedBytes: 0, lastTick: undefined };
}
