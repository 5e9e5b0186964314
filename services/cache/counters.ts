/**
 * Pure: the counters of a shard, which metrics.ts exports to Prometheus. They are plain numbers, because a labelled prom-client counter costs
 * about 1 µs and a hot GET about 10 µs.
 */

export const methods = ['GET', 'HEAD', 'PUT', 'DELETE', 'other'] as const;
export type Method = (typeof methods)[number];
export const results = [
  'hit',
  'miss',
  'notModified',
  'partial',
  'redirected',
  'filled',
  'waited',
  'stored',
  'notStored',
  'deleted',
  'refused',
  'failed',
] as const;
export type Result = (typeof results)[number];
/** Upper bounds of the latency histogram in seconds. */
export const latencyBounds = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10] as const;

export class Counters {
  readonly requests: Record<Method, Record<Result, number>>;
  /** One count for each latency bound and one for longer requests. `sum` is in seconds. */
  readonly latency: Record<Method, { counts: number[]; sum: number }>;
  /** Body bytes by route: `proxied` through Envoy, `direct` with a ticket. */
  received = { proxied: 0, direct: 0 };
  sent = { proxied: 0, direct: 0 };
  tickets = { used: 0, refused: 0, expired: 0 };
  evictedObjects = 0;
  evictedBytes = 0;
  /** Idle time of the most recently evicted object when it was evicted. */
  lastVictimIdleSeconds = 0;
  corruptObjects = 0;
  scrubbedObjects = 0;
  diskErrors = { read: 0, write: 0, full: 0, descriptors: 0, timeout: 0 };
  /** File calls that the thread pool has not finished. */
  pendingFileCalls = 0;
  foreignFiles = 0;
  recoveredObjects = 0;
  syncReads = 0;
  pooledReads = 0;
  coldSyncReads = 0;
  handedOver = 0;
  badRequests = 0;
  /** Requests without a known caller, by reason. */
  badCallers = { missing: 0, forged: 0, expired: 0, malformed: 0 };
  cutOff = 0;

  constructor() {
    const each = <T>(make: () => T) => Object.fromEntries(methods.map((method) => [method, make()])) as Record<Method, T>;
    this.requests = each(() => Object.fromEntries(results.map((result) => [result, 0])) as Record<Result, number>);
    this.latency = each(() => ({ counts: new Array<number>(latencyBounds.length + 1).fill(0), sum: 0 }));
  }

  /** All requests that have ended. */
  get ended(): number {
    let sum = 0;
    for (const method of methods) for (const result of results) sum += this.requests[method][result];
    return sum;
  }

  count(method: Method, result: Result, seconds: number): void {
    this.requests[method][result] += 1;
    const latency = this.latency[method];
    let bound = 0;
    while (bound < latencyBounds.length && seconds > (latencyBounds[bound] as number)) bound += 1;
    latency.counts[bound] = (latency.counts[bound] as number) + 1;
    latency.sum += seconds;
  }
}
