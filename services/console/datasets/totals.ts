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

/** Adds up the totals of the shards, one after the other: those of 1,000 shards together would need much more memory than their sum. */
export class TotalsSum {
  readonly #total: Sum;
  readonly #children = new Map<string, Sum>();
  readonly #shards: DatasetsTotals['shards'][number][] = [];

  constructor(prefix: string) {
    this.#total = noUse(prefix);
  }

  add({ shard, result }: ShardOutcome<ShardTotals>): void {
    if (result === undefined) {
      this.#shards.push({ shard, state: 'away' });
      return;
    }
    const { complete, objects, bytes } = result;
    this.#shards.push({ shard, state: complete ? 'complete' : 'incomplete', objects, bytes });
    add(this.#total, result);
    for (const child of result.children) {
      const sum = this.#children.get(child.prefix) ?? noUse(child.prefix);
      this.#children.set(child.prefix, sum);
      add(sum, child);
    }
  }

  /** The shards are in the order of their names. */
  result(): DatasetsTotals {
    const children = [...this.#children.values()].sort((one, other) => other.bytes - one.bytes);
    const others = noUse(othersPrefix);
    const rest = children.splice(maxChildren);
    for (const child of rest) add(others, child);
    return {
      ...this.#total,
      complete: this.#shards.length > 0 && this.#shards.every(({ state }) => state === 'complete'),
      children: rest.length === 0 ? children : [...children, others],
      shards: this.#shards.toSorted((one, other) => one.shard.localeCompare(other.shard, 'en', { numeric: true })),
    };
  }
}

type Sum = { -readonly [name in keyof DatasetUse]: DatasetUse[name] };

function noUse(prefix: string): Sum {
  return { prefix, objects: 0, bytes: 0, hits: 0, misses: 0, lastUsed: null };
}

function add(sum: Sum, use: DatasetUse): void {
  for (const name of ['objects', 'bytes', 'hits', 'misses'] as const) sum[name] += use[name];
  if (use.lastUsed !== null && (sum.lastUsed === null || use.lastUsed > sum.lastUsed)) sum.lastUsed = use.lastUsed;
}
