/** Counts, times and bytes of requests, and the connections. */
import { Counter, type MetricObjectWithValues, type MetricValueWithName, type Registry } from 'prom-client';
import { type Counters, latencyBounds, methods, results } from '../counters.ts';
import { registerGauge, registerTotal, registerTotals } from './register.ts';

export function registerRequests(registry: Registry, counters: Counters, connections: () => number): void {
  const total = (name: string, help: string, read: () => number) => registerTotal(registry, name, help, read);
  const gauge = (name: string, help: string, read: () => number) => registerGauge(registry, name, help, read);
  registry.registerMetric(
    new Counter({
      name: 'kura_cache_requests_total',
      help: 'Requests by method and result.',
      labelNames: ['method', 'result'],
      registers: [],
      collect() {
        this.reset();
        for (const method of methods) {
          for (const result of results)
            if (counters.requests[method][result] > 0) this.inc({ method, result: snake(result) }, counters.requests[method][result]);
        }
      },
    }),
  );
  registry.registerMetric(new LatencyHistogram(counters));
  registerTotals(
    registry,
    { name: 'kura_cache_received_bytes_total', help: 'Body bytes of uploads by way: proxied (through Envoy) or direct.', label: 'way' },
    counters.received,
  );
  registerTotals(
    registry,
    { name: 'kura_cache_sent_bytes_total', help: 'Body bytes of reads by way: proxied (through Envoy) or direct.', label: 'way' },
    counters.sent,
  );
  registerTotals(registry, { name: 'kura_cache_tickets_total', help: 'Received tickets by result.', label: 'result' }, counters.tickets);
  gauge('kura_cache_hit_ratio', 'Hits of GET since the start, divided by hits and misses. A fill and a wait for it are misses.', () =>
    hitRatio(counters),
  );
  gauge('kura_cache_connections', 'Open connections.', connections);
  total('kura_cache_handed_over_total', "Connections handed over to Node's HTTP server.", () => counters.handedOver);
  total(
    'kura_cache_bad_requests_total',
    'Connections closed because a request was invalid, too large or too slow.',
    () => counters.badRequests,
  );
  registerTotals(
    registry,
    {
      name: 'kura_cache_bad_callers_total',
      help: 'Requests without a valid signed caller and terms, by reason.',
      label: 'reason',
    },
    counters.badCallers,
  );
  total('kura_cache_cut_off_total', 'Connections closed because the client stalled.', () => counters.cutOff);
}

/** Exports existing counts. prom-client's Histogram keeps its own counts, so this is a Counter whose public `get` returns a histogram. */
class LatencyHistogram extends Counter<'method'> {
  readonly #counters: Counters;

  constructor(counters: Counters) {
    super({ ...latencyName, labelNames: ['method'], registers: [] });
    this.#counters = counters;
  }

  override async get(): Promise<MetricObjectWithValues<MetricValueWithName<string>>> {
    const values = methods.flatMap((method) => {
      const { counts, sum } = this.#counters.latency[method];
      let cumulated = 0;
      const buckets = counts.map((count, at) => {
        cumulated += count;
        return value('_bucket', { method, le: latencyBounds[at] ?? '+Inf' }, cumulated);
      });
      return [...buckets, value('_sum', { method }, sum), value('_count', { method }, cumulated)];
    });
    // prom-client declares `type` as a number, but its code uses the word.
    return { ...latencyName, type: 'histogram', aggregator: 'sum', values } as unknown as MetricObjectWithValues<
      MetricValueWithName<string>
    >;
  }
}

const latencyName = { name: 'kura_cache_request_seconds', help: 'Time from the head of a request to the end of its response.' };

function value(suffix: string, labels: Readonly<Record<string, string | number>>, number: number): MetricValueWithName<string> {
  return { metricName: latencyName.name + suffix, labels, value: number };
}

function hitRatio(counters: Counters): number {
  const { hit, partial, notModified, miss, filled, waited } = counters.requests.GET;
  const hits = hit + partial + notModified;
  const misses = miss + filled + waited;
  return hits + misses === 0 ? 0 : hits / (hits + misses);
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
