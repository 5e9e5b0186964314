/** Reads the numbers of shards from their metrics ports. */
import { request } from 'undici';
import { type ShardNumbers as PageNumbers, readShardNumbers, type Totals } from '../../shared/shard-numbers.ts';

const responseTimeoutMs = 2_000;

export interface ShardNumbers {
  readonly name: string;
  /** Undefined if the shard does not respond. */
  readonly numbers: Numbers | undefined;
}

/** The numbers of all shards at one time. */
export interface ShardReading {
  readonly shards: readonly ShardNumbers[];
  /** In milliseconds since the epoch. */
  readonly atMs: number;
}

/** The numbers of one shard, as a flat object for `--json`. */
type Numbers = Omit<PageNumbers, 'isServing' | 'totals' | 'namespaces'> &
  Pick<Totals, 'hits' | 'misses' | 'sentBytes' | 'receivedBytes'> & {
    readonly serving: boolean;
    readonly namespaces: readonly NamespaceNumbers[];
  };

export interface NamespaceNumbers {
  readonly namespace: string;
  readonly objects: number;
  readonly bytes: number;
}

export interface ShardSource {
  readonly name: string;
  readonly metricsUrl: string;
}

/** Requests all pages concurrently. A shard that does not respond has no numbers in the result. */
export function readShards(shards: readonly ShardSource[]): Promise<ShardNumbers[]> {
  return Promise.all(shards.map(async ({ name, metricsUrl }) => ({ name, numbers: await readShard(metricsUrl).catch(() => undefined) })));
}

async function readShard(url: string): Promise<Numbers | undefined> {
  const { statusCode, body } = await request(url, { signal: AbortSignal.timeout(responseTimeoutMs) });
  const text = await body.text();
  const page = statusCode === 200 ? readShardNumbers(text) : undefined;
  return page === undefined ? undefined : flatNumbers(page);
}

/** The numbers as a flat object. `namespaces` may be a Map or its entries. */
export function flatNumbers(page: PageNumbers): Numbers {
  const { isServing, totals, namespaces, ...rest } = page;
  const { hits, misses, sentBytes, receivedBytes } = totals;
  return {
    serving: isServing,
    ...rest,
    hits,
    misses,
    sentBytes,
    receivedBytes,
    namespaces: [...namespaces].map(([namespace, { objects, bytes }]) => ({ namespace, objects, bytes })),
  };
}

/** Adds up what each namespace stores in all shards, the largest namespace first. */
export function namespacesOf(shards: readonly ShardNumbers[]): NamespaceNumbers[] {
  const all = shards.flatMap(({ numbers }) => numbers?.namespaces ?? []);
  return [...Map.groupBy(all, ({ namespace }) => namespace)]
    .map(([namespace, own]) => ({
      namespace,
      objects: own.reduce((total, { objects }) => total + objects, 0),
      bytes: own.reduce((total, { bytes }) => total + bytes, 0),
    }))
    .sort((one, other) => other.bytes - one.bytes);
}
