/** Pure: reads the metrics of a shard. */

export interface NamespaceNumbers {
  objects: number;
  bytes: number;
  /** The share of the shard that the namespace may fill; undefined when the policy sets none. */
  share: number | undefined;
}

export interface ShardNumbers {
  readonly isServing: boolean;
  readonly objects: number;
  readonly usedBytes: number;
  readonly limitBytes: number;
  readonly evicted: number;
  /** How long the last evicted object had not been used. */
  readonly victimIdleSeconds: number;
  /** Since the start of the shard. */
  readonly totals: Totals;
  /** Successful PUTs, and failed requests of any method, since the start of the shard. */
  readonly stored: number;
  readonly failed: number;
  /** Cumulative number of GETs since the start, by upper bound in seconds. The last bound is `+Inf`. */
  readonly getTimes: readonly (readonly [bound: string, count: number])[];
  readonly namespaces: ReadonlyMap<string, NamespaceNumbers>;
}

const totalNames = ['hits', 'misses', 'puts', 'others', 'sentBytes', 'receivedBytes'] as const;
export type Totals = Readonly<Record<(typeof totalNames)[number], number>>;

export const noTotals: Totals = { hits: 0, misses: 0, puts: 0, others: 0, sentBytes: 0, receivedBytes: 0 };

const line = /^kura_cache_(\w+)(?:\{(.*)\})? (\S+)$/;
const label = /(\w+)="((?:[^"\\]|\\.)*)"/g;
/** A shard reports some hundred namespaces by name. More than this limit is not accepted. */
const maxNamespaces = 200;
const hits = new Set(['hit', 'partial', 'not_modified']);

/** Reads the text format of Prometheus. Undefined when the text is not from a shard. */
export function readShardNumbers(text: string): ShardNumbers | undefined {
  const values = new Map<string, number>();
  const totals: Record<keyof Totals, number> = { ...noTotals };
  const results = { stored: 0, failed: 0 };
  const getTimes: [bound: string, count: number][] = [];
  const namespaces = new Map<string, NamespaceNumbers>();
  for (const row of text.split('\n')) {
    const match = line.exec(row);
    if (match === null) continue;
    const [, name = '', labels = '', number] = match;
    const value = Number(number);
    if (name === 'requests_total') {
      const { method, result = '' } = readLabels(labels);
      totals[kindOf(method, result)] += value;
      if (result === 'failed' || (method === 'PUT' && result === 'stored')) results[result] += value;
    } else if (name === 'request_seconds_bucket') {
      const { method, le = '' } = readLabels(labels);
      if (method === 'GET') getTimes.push([le, value]);
    } else if (name === 'sent_bytes_total') totals.sentBytes += value;
    else if (name === 'received_bytes_total') totals.receivedBytes += value;
    else if (name === 'namespace_objects') namespaceOf(namespaces, labels).objects = value;
    else if (name === 'namespace_bytes') namespaceOf(namespaces, labels).bytes = value;
    else if (name === 'namespace_share_ratio') namespaceOf(namespaces, labels).share = value;
    else if (labels === '') values.set(name, value);
  }
  if (!values.has('limit_bytes')) return undefined;
  const read = (name: string): number => values.get(name) ?? 0;
  return {
    isServing: read('serving') === 1,
    objects: read('objects'),
    usedBytes: read('used_bytes'),
    limitBytes: read('limit_bytes'),
    evicted: read('evicted_objects_total'),
    victimIdleSeconds: read('last_victim_idle_seconds'),
    totals,
    ...results,
    getTimes,
    namespaces,
  };
}

function kindOf(method: string | undefined, result: string): 'hits' | 'misses' | 'puts' | 'others' {
  if (method === 'GET' && hits.has(result)) return 'hits';
  // A fill and a wait for it are misses that the client does not see.
  if (method === 'GET' && (result === 'miss' || result === 'filled' || result === 'waited')) return 'misses';
  return method === 'PUT' && (result === 'stored' || result === 'not_stored') ? 'puts' : 'others';
}

function namespaceOf(namespaces: Map<string, NamespaceNumbers>, labels: string): NamespaceNumbers {
  const given = readLabels(labels).namespace ?? '';
  const name = namespaces.has(given) || namespaces.size < maxNamespaces ? given : '(others)';
  const known = namespaces.get(name) ?? { objects: 0, bytes: 0, share: undefined };
  namespaces.set(name, known);
  return known;
}

function readLabels(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(label)].map(([, name = '', value = '']) => [name, value.replace(/\\(.)/g, '$1')]));
}
