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

/** Adds up the groups under a prefix, which is empty or ends with a slash. 60,000 groups take 15 ms. */
export function datasetTotals(parts: Datasets, prefix: string, maxChildren: number): DatasetTotals {
  const { known, nameless } = datasetUses(parts, prefix);
  const total = noUse(prefix);
  for (const use of known) add(total, use);
  if (prefix === '') add(total, nameless);
  const { named, rest } = largest(known, maxChildren);
  if (prefix === '') add(rest, nameless);
  const isWhole = prefix === '' || (isDataSetOrAbove(prefix) && nameless.objects === 0);
  return { total, children: rest.objects === 0 ? named : [...named, rest], isWhole };
}

/** The data sets with most bytes, and all others as one sum with the name `(others)`. */
export function largestDatasets(parts: Datasets, max: number): readonly DatasetUse[] {
  const { known, nameless } = datasetUses(parts, '');
  const { named, rest } = largest(known, max);
  add(rest, nameless);
  return [...named, rest];
}

/** The largest data sets of those with objects, and the sum of the others. */
function largest(uses: readonly DatasetUse[], max: number): { named: DatasetUse[]; rest: DatasetUse } {
  const rest = noUse(othersPrefix);
  let named: DatasetUse[] = [];
  let minBytes = 0;
  const cut = () => {
    named.sort((one, other) => other.bytes - one.bytes);
    for (const use of named.slice(max)) add(rest, use);
    named = named.slice(0, max);
    if (named.length === max) minBytes = named.at(-1)?.bytes ?? 0;
  };
  for (const use of uses) {
    if (use.objects === 0) continue;
    if (use.bytes <= minBytes) add(rest, use);
    else if (named.push(use) >= 2 * max) cut();
  }
  cut();
  return { named, rest };
}

/** The data sets under a prefix, and the sum of all objects of which the shard does not know the data set. */
function datasetUses({ index, groups, datasets }: Datasets, prefix: string): { known: DatasetUse[]; nameless: DatasetUse } {
  const known: DatasetUse[] = [];
  const nameless = noUse(othersPrefix, datasets.others);
  /** Data sets of several namespaces. */
  const shared = new Map<string, DatasetUse>();
  for (let group = 0; group < groups.size; group += 1) {
    const counted = datasets.of(group);
    if (counted !== undefined && !counted.prefix.startsWith(prefix)) continue;
    let use = counted === undefined ? nameless : shared.get(counted.prefix);
    if (use === undefined) {
      const { prefix: name, groups: count } = counted as NonNullable<typeof counted>;
      use = noUse(name, counted);
      known.push(use);
      if (count > 1) shared.set(name, use);
    }
    const newest = index.newestOf(group);
    use.objects += index.groupCount(group);
    use.bytes += index.groupBlocks(group) * fileBlockBytes;
    if (newest !== noRow) use.lastTick = Math.max(use.lastTick ?? 0, index.tick(newest));
  }
  return { known, nameless };
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

function add(sum: DatasetUse, use: DatasetUse): void {
  sum.objects += use.objects;
  sum.bytes += use.bytes;
  sum.hits += use.hits;
  sum.misses += use.misses;
  sum.evictedObjects += use.evictedObjects;
  sum.evictedBytes += use.evictedBytes;
  if (use.lastTick !== undefined) sum.lastTick = Math.max(sum.lastTick ?? 0, use.lastTick);
}

function noUse(prefix: string, counts: Readonly<DatasetCounts> = none): DatasetUse {
  const { hits, misses, evictedObjects, evictedBytes } = counts;
  return { prefix, objects: 0, bytes: 0, hits, misses, evictedObjects, evictedBytes, lastTick: undefined };
}

const none: DatasetCounts = { hits: 0, misses: 0, evictedObjects: 0, evictedBytes: 0 };
