/** What shards say of themselves on their metrics ports. */
import { request } from 'undici';

const answerLimitMs = 2_000;

export interface ShardNumbers {
  readonly name: string;
  /** Undefined where it does not answer. */
  readonly numbers:
    | {
        readonly serving: boolean;
        readonly objects: number;
        readonly usedBytes: number;
        readonly limitBytes: number;
        /** Since its start. */
        readonly hits: number;
        readonly misses: number;
        readonly stored: number;
        readonly failed: number;
        readonly sentBytes: number;
        readonly receivedBytes: number;
        readonly evicted: number;
        /** How long the object evicted last had not been used. */
        readonly victimIdleSeconds: number;
        /** GETs since its start that took at most so many seconds, by bound, the last of which is `+Inf`. */
        readonly getTimes: readonly (readonly [bound: string, count: number])[];
        readonly namespaces: readonly NamespaceNumbers[];
      }
    | undefined;
}

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

async function readShard(url: string): Promise<ShardNumbers['numbers']> {
  const { statusCode, body } = await request(url, { signal: AbortSignal.timeout(answerLimitMs) });
  const text = await body.text();
  if (statusCode !== 200) return undefined;
  const sum = (name: string, labels = ''): number => {
    const lines = [...text.matchAll(new RegExp(`^kura_cache_${name}(?:\\{[^}]*${labels}[^}]*\\})? (\\S+)$`, 'gm'))];
    return lines.reduce((total, [, value]) => total + Number(value), 0);
  };
  const requests = (method: string, result: string): number => sum('requests_total', `method="${method}"[^}]*result="${result}"`);
  return {
    serving: sum('serving') === 1,
    objects: sum('objects'),
    usedBytes: sum('used_bytes'),
    limitBytes: sum('limit_bytes'),
    hits: requests('GET', 'hit') + requests('GET', 'partial') + requests('GET', 'not_modified'),
    misses: requests('GET', 'miss'),
    stored: requests('PUT', 'stored'),
    failed: sum('requests_total', 'result="failed"'),
    sentBytes: sum('sent_bytes_total'),
    receivedBytes: sum('received_bytes_total'),
    evicted: sum('evicted_objects_total'),
    victimIdleSeconds: sum('last_victim_idle_seconds'),
    getTimes: [...text.matchAll(/^kura_cache_request_seconds_bucket\{method="GET",le="([^"]+)"\} (\d+)$/gm)].map(
      ([, bound = '', count]) => [bound, Number(count)] as const,
    ),
    namespaces: [...text.matchAll(/^kura_cache_namespace_objects\{namespace="([^"]+)"\} (\d+)$/gm)].map(([, namespace = '', objects]) => ({
      namespace,
      objects: Number(objects),
      bytes: sum('namespace_bytes', `namespace="${namespace.replace(/[()]/g, '\\$&')}"`),
    })),
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
