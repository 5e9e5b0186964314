/** Pure: adds the totals of all shards. */
import type { DatasetUse } from '../../shared/datasets-api.ts';
import type { ShardTotals } from './shard-client.ts';

export interface ShardOutcome<T> {
  readonly shard: string;
  /** Undefined for a shard that is away. */
  readonly result: T | undefined;
}

interface DatasetsTotals extends DatasetUse {
  /** False while a shard is away or recovers, or if the prefix is partly in the data sets without a name. */
  readonly complete: boolean;
  /** The data sets under the prefix, the largest first. */
  readonly children: readonly DatasetUse[];
  readonly shards: readonly {
    readonly shard: string;
    readonly state: 'complete' | 'incomplete' | 'away';
    readonly objects?: number;
    readonly bytes?: number;
  }[];
}

/** The rest of them is one sum, with this name. */
const maxChildren = 1_000;
const othersPrefix = '(others)';

export function sumTotals(prefix: string, outcomes: readonly ShardOutcome<ShardTotals>[]): DatasetsTotals {
  const known = outcomes.flatMap(({ result }) => (result === undefined ? [] : [result]));
  const byPrefix = Map.groupBy(
    known.flatMap(({ children }) => children),
    (child) => child.prefix,
  );
  const children = [...byPrefix].map(([name, uses]) => add(name, uses)).sort((one, other) => other.bytes - one.bytes);
  const rest = children.slice(maxChildren);
  return {
    ...add(prefix, known),
    complete: outcomes.length > 0 && outcomes.every(({ result }) => result?.complete === true),
    children: rest.length === 0 ? children : [...children.slice(0, maxChildren), add(othersPrefix, rest)],
    shards: outcomes.map(({ shard, result }) => {
      if (result === undefined) return { shard, state: 'away' };
      return { shard, state: result.complete ? 'complete' : 'incomplete', objects: result.objects, bytes: result.bytes };
    }),
  };
}

function add(prefix: string, uses: readonly DatasetUse[]): DatasetUse {
  const sum = (name: 'objects' | 'bytes' | 'hits' | 'misses'): number => uses.reduce((total, use) => total + use[name], 0);
  const lastUsed = uses.reduce<string | null>(
    (last, use) => (use.lastUsed !== null && (last === null || use.lastUsed > last) ? use.lastUsed : last),
    null,
  );
  return { prefix, objects: sum('objects'), bytes: sum('bytes'), hits: sum('hits'), misses: sum('misses'), lastUsed };
}
