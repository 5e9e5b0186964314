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

const start = 'kura_cache_';
/** A shard reports some hundred namespaces by name. More than this limit is not accepted. */
const maxNamespaces = 200;
const hits = new Set(['hit', 'partial', 'not_modified']);

/**
 * Reads the text format of Prometheus. Undefined when the text is not from a shard. `names` holds names of earlier pages: with a copy of
 * its own, a name does not keep its page in memory.
 */
export function readShardNumbers(text: string, names = new Map<string, string>()): ShardNumbers | undefined {
  const values = new Map<string, number>();
  const totals: Record<keyof Totals, number> = { ...noTotals };
  const results = { stored: 0, failed: 0 };
  const getTimes: [bound: string, count: number][] = [];
  const namespaces = new Map<string, NamespaceNumbers>();
  for (const { name, labels, value } of readLines(text)) {
    if (name === 'requests_total') {
      const { method, result = '' } = readLabels(labels);
      totals[kindOf(method, result)] += value;
      if (result === 'failed' || (method === 'PUT' && result === 'stored')) results[result] += value;
    } else if (name === 'request_seconds_bucket') {
      const { method, le = '' } = readLabels(labels);
      if (method === 'GET') getTimes.push([le, value]);
    } else if (name === 'sent_bytes_total') totals.sentBytes += value;
    else if (name === 'received_bytes_total') totals.receivedBytes += value;
    else if (name === 'namespace_objects') namespaceOf(namespaces, labels, names).objects = value;
    else if (name === 'namespace_bytes') namespaceOf(namespaces, labels, names).bytes = value;
    else if (name === 'namespace_share_ratio') namespaceOf(namespaces, labels, names).share = value;
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

/** The lines of a shard that the numbers may need. The page of a shard with many data sets has a thousand others. */
function* readLines(text: string): Generator<{ name: string; labels: string; value: number }> {
  for (let from = 0, end = 0; from < text.length; from = end + 1) {
    const feed = text.indexOf('\n', from);
    end = feed === -1 ? text.length : feed;
    if (!text.startsWith(start, from) || text.startsWith('dataset', from + start.length)) continue;
    const gap = text.lastIndexOf(' ', end);
    const nameFrom = from + start.length;
    if (gap < nameFrom) continue;
    const brace = text.charCodeAt(gap - 1) === closingBrace ? text.indexOf('{', nameFrom) : gap;
    yield {
      name: text.slice(nameFrom, brace),
      labels: brace === gap ? '' : text.slice(brace + 1, gap - 1),
      value: Number(text.slice(gap + 1, end)),
    };
  }
}

const closingBrace = 0x7d;

function kindOf(method: string | undefined, result: string): 'hits' | 'misses' | 'puts' | 'others' {
  if (method === 'GET' && hits.has(result)) return 'hits';
  // A fill and a wait for it are misses that the client does not see.
  if (method === 'GET' && (result === 'miss' || result === 'filled' || result === 'waited')) return 'misses';
  return method === 'PUT' && (result === 'stored' || result === 'not_stored') ? 'puts' : 'others';
}

function namespaceOf(namespaces: Map<string, NamespaceNumbers>, labels: string, names: Map<string, string>): NamespaceNumbers {
  const given = readLabels(labels).namespace ?? '';
  const name = namespaces.has(given) || namespaces.size < maxNamespaces ? given : '(others)';
  const known = namespaces.get(name);
  if (known !== undefined) return known;
  const numbers = { objects: 0, bytes: 0, share: undefined };
  namespaces.set(copyOf(name, names), numbers);
  return numbers;
}

/** A part of a string keeps the whole string in memory (V8). */
function copyOf(name: string, names: Map<string, string>): string {
  const known = names.get(name);
  if (known !== undefined) return known;
  const copy = Buffer.from(name).toString();
  names.set(copy, copy);
  return copy;
}

/** Without a regular expression, because the console reads hundreds of thousands of labels in a round. */
function readLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let at = 0; at < text.length; ) {
    const from = text.indexOf('="', at);
    if (from === -1) break;
    let end = text.indexOf('"', from + 2);
    while (end !== -1 && isEscaped(text, end)) end = text.indexOf('"', end + 1);
    if (end === -1) break;
    const value = text.slice(from + 2, end);
    labels[text.slice(at, from)] = value.includes('\\') ? value.replace(/\\(.)/g, '$1') : value;
    at = end + 2;
  }
  return labels;
}

/** An odd number of backslashes before the character. */
function isEscaped(text: string, at: number): boolean {
  let before = at;
  while (text.charCodeAt(before - 1) === backslash) before -= 1;
  return (at - before) % 2 === 1;
}

const backslash = 0x5c;
