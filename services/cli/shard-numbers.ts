/** What shards say of themselves on their metrics ports. */
import { request } from 'undici';
import { type ShardNumbers as PageNumbers, readShardNumbers, type Totals } from '../shared/shard-numbers.ts';

const answerLimitMs = 2_000;

export interface ShardNumbers {
  readonly name: string;
  /** Undefined where it does not answer. */
  readonly numbers: Numbers | undefined;
}

/** The shard's own, as one flat object for `--json`. */
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

/** Asks all at once; one that does not answer is so in the result. */
export function readShards(shards: readonly ShardSource[]): Promise<ShardNumbers[]> {
  return Promise.all(shards.map(async ({ name, metricsUrl }) => ({ name, numbers: await readShard(metricsUrl).catch(() => undefined) })));
}

async function readShard(url: string): Promise<Numbers | undefined> {
  const { statusCode, body } = await request(url, { signal: AbortSignal.timeout(answerLimitMs) });
  const text = await body.text();
  const page = statusCode === 200 ? readShardNumbers(text) : undefined;
  if (page === undefined) return undefined;
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

/** What each namespace has in all shards, the largest first. */
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
