/** The metrics of the origin service. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { OpenOrigins } from './open-origins.ts';

/** How a request at an origin ended. `aborted`: the shard closed its connection. `short`: the body ended early. */
export type FetchResult =
  | 'object'
  | 'miss'
  | 'refused'
  | 'failed'
  | 'too-large'
  | 'busy'
  | 'changed'
  | 'range-not-satisfiable'
  | 'aborted'
  | 'short';

/** Why a prefetch job did not get an object. `rejected`: the shard does not accept the signature. `busy`: it had no room for 15 min. */
export type FailureReason =
  | 'origin-miss'
  | 'origin-failed'
  | 'origin-refused'
  | 'origin-no-length'
  | 'too-large'
  | 'no-room'
  | 'not-stored'
  | 'busy'
  | 'rejected'
  | 'no-response'
  | 'other';

/** `failed`: the origin could not list its objects, or the job took too long. */
export type JobState = 'running' | 'done' | 'stopped' | 'failed';

interface MetricsOptions {
  readonly origins: OpenOrigins;
  readonly document: { readonly isWatching: boolean; readonly accepted: number; readonly rejected: number };
}

export class Metrics {
  readonly #requests: Counter<'origin' | 'result'>;
  readonly #bytes: Counter<'origin'>;
  readonly #seconds: Histogram<'origin'>;
  readonly #runningJobs: Gauge;
  readonly #jobs: Counter<'result'>;
  readonly #prefetched: Counter<'origin' | 'result'>;
  readonly #prefetchedBytes: Counter<'origin'>;
  readonly #retries: Counter<'reason'>;

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
    this.#runningJobs = new Gauge({ name: 'kura_origin_prefetch_running_jobs', help: 'Prefetch jobs that run.', registers });
    this.#jobs = new Counter({
      name: 'kura_origin_prefetch_jobs_total',
      help: 'Prefetch jobs that have ended, by result.',
      labelNames: ['result'],
      registers,
    });
    this.#prefetched = new Counter({
      name: 'kura_origin_prefetch_objects_total',
      help: 'Objects of prefetch jobs by origin and result. `present`: the object was in the cache.',
      labelNames: ['origin', 'result'],
      registers,
    });
    this.#prefetchedBytes = new Counter({
      name: 'kura_origin_prefetch_bytes_total',
      help: 'Bytes of objects that prefetch jobs have fetched, by origin.',
      labelNames: ['origin'],
      registers,
    });
    this.#retries = new Counter({
      name: 'kura_origin_prefetch_retries_total',
      help: 'Retries of prefetch jobs. `busy`: a shard or an origin had no room for another fill.',
      labelNames: ['reason'],
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

  jobStarted(): void {
    this.#runningJobs.inc();
  }

  jobEnded(result: JobState): void {
    this.#runningJobs.dec();
    this.#jobs.inc({ result });
  }

  prefetched(origin: string, result: 'fetched' | 'present' | FailureReason, bytes: number): void {
    this.#prefetched.inc({ origin, result });
    this.#prefetchedBytes.inc({ origin }, bytes);
  }

  prefetchRetried(reason: 'busy' | 'fault'): void {
    this.#retries.inc({ reason });
  }

  opened(origin: string, seconds: number): void {
    this.#seconds.observe({ origin }, seconds);
  }
}
