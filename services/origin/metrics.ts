/** The metrics of the origin service. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { OpenOrigins } from './open-origins.ts';

/** How a request at an origin ended. `aborted`: the shard closed its connection. `short`: the body ended early. */
export type FetchResult = 'object' | 'miss' | 'refused' | 'failed' | 'busy' | 'changed' | 'range-not-satisfiable' | 'aborted' | 'short';

interface MetricsOptions {
  readonly origins: OpenOrigins;
  readonly document: { readonly isWatching: boolean; readonly accepted: number; readonly rejected: number };
}

export class Metrics {
  readonly #requests: Counter<'origin' | 'result'>;
  readonly #bytes: Counter<'origin'>;
  readonly #seconds: Histogram<'origin'>;

  /** The document bounds the label `origin`: it has at most 1,000 origins. */
  constructor(registry: Registry, { origins, document }: MetricsOptions) {
    const registers = [registry];
    this.#requests = new Counter({
      name: 'kura_origin_requests_total',
      help: 'Requests of shards by origin and result.',
      labelNames: ['origin', 'result'],
      registers,
    });
    this.#bytes = new Counter({
      name: 'kura_origin_bytes_total',
      help: 'Bytes fetched from each origin.',
      labelNames: ['origin'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'kura_origin_first_byte_seconds',
      help: 'Time from the request of a shard to the head of the response of the origin.',
      labelNames: ['origin'],
      buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    });
    new Gauge({
      name: 'kura_origin_open_requests',
      help: 'Requests that are open at each origin.',
      labelNames: ['origin'],
      registers,
      collect() {
        this.reset();
        for (const { origin, limit } of origins) this.set({ origin: origin.name }, limit.open);
      },
    });
    new Gauge({
      name: 'kura_origin_watch_healthy',
      help: '1 while the watch on ConfigMap kura-origins is healthy.',
      registers,
      collect() {
        this.set(document.isWatching ? 1 : 0);
      },
    });
    new Counter({
      name: 'kura_origin_documents_total',
      help: 'Documents of ConfigMap kura-origins by result.',
      labelNames: ['result'],
      registers,
      collect() {
        this.reset();
        this.inc({ result: 'accepted' }, document.accepted);
        this.inc({ result: 'rejected' }, document.rejected);
      },
    });
  }

  count(origin: string, result: FetchResult): void {
    this.#requests.inc({ origin, result });
  }

  countBytes(origin: string, bytes: number): void {
    this.#bytes.inc({ origin }, bytes);
  }

  opened(origin: string, seconds: number): void {
    this.#seconds.observe({ origin }, seconds);
  }
}
