/** Exports the numbers of a shard to Prometheus. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, type MetricObjectWithValues, type MetricValueWithName, type Registry } from 'prom-client';
import { type Counters, latencyBounds, methods, results } from './counters.ts';
import type { Catalog } from './index/catalog.ts';
import { type DatasetUse, largestDatasets } from './index/dataset-totals.ts';
import { type NamespaceUse, namespaceUse } from './index/namespace-use.ts';
import type { BufferPool } from './store/buffer-pool.ts';
import type { PageCacheWindow } from './store/page-cache-window.ts';

/** The numbers of `Fills`. */
interface FillNumbers {
  readonly results: Readonly<Record<string, number>>;
  readonly rejected: number;
  readonly receivedBytes: number;
  readonly waiters: number;
  readonly bounds: { readonly fills: number; readonly bytes: number };
}

export interface ShardNumbers {
  readonly counters: Counters;
  readonly catalog: Catalog;
  readonly openFiles: { readonly size: number };
  readonly buffers: BufferPool;
  readonly window: PageCacheWindow;
  readonly connections: () => number;
  /** Share of the folders that were scanned since the start, 0 to 1. */
  readonly recovered: () => number;
  readonly isServing: () => boolean;
  /** Undefined without an origin service. */
  readonly fills: FillNumbers | undefined;
}

/** Registers all metrics. The returned function stops the measurement of the event loop. */
export function registerMetrics(registry: Registry, numbers: ShardNumbers): () => void {
  const { counters, catalog, openFiles, buffers, window } = numbers;
  registerRequests(registry, counters);
  const total = (name: string, help: string, read: () => number) => registerTotal(registry, name, help, read);
  const gauge = (name: string, help: string, read: () => number) => registerGauge(registry, name, help, read);
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
  gauge('kura_cache_objects', 'Objects in the index.', () => catalog.index.count);
  gauge('kura_cache_used_bytes', 'Bytes that count against the limit, in blocks of 4 KiB.', () => catalog.space.usedBytes);
  gauge('kura_cache_stored_bytes', 'Bytes of stored objects, in blocks of 4 KiB.', () => catalog.storedBytes);
  gauge('kura_cache_reserved_bytes', 'Bytes of uploads in progress and of files that are being freed.', () => catalog.space.reservedBytes);
  gauge(
    'kura_cache_limit_bytes',
    'Byte limit now. It is lower while another program fills the file system.',
    () => catalog.space.limitBytes,
  );
  gauge('kura_cache_limit_objects', 'Limit for the number of files.', () => catalog.space.limits.maxFiles);
  total('kura_cache_evicted_objects_total', 'Evicted objects.', () => counters.evictedObjects);
  total('kura_cache_evicted_bytes_total', 'Bytes of evicted objects.', () => counters.evictedBytes);
  gauge(
    'kura_cache_last_victim_idle_seconds',
    'Idle time of the most recently evicted object when it was evicted.',
    () => counters.lastVictimIdleSeconds,
  );
  gauge('kura_cache_recovered_ratio', 'Share of the folders that recovery has counted since the start.', numbers.recovered);
  total('kura_cache_recovered_objects_total', 'Objects that recovery has found since the start.', () => counters.recoveredObjects);
  total('kura_cache_corrupt_objects_total', 'Damaged objects. The shard removes them.', () => counters.corruptObjects);
  total('kura_cache_scrubbed_objects_total', 'Objects checked in the background.', () => counters.scrubbedObjects);
  gauge(
    'kura_cache_foreign_files',
    'Files in the object folders that are not objects. The shard does not change them.',
    () => counters.foreignFiles,
  );
  total('kura_cache_synchronous_reads_total', 'Synchronous reads of data expected in the page cache.', () => counters.syncReads);
  total('kura_cache_pooled_reads_total', 'Reads through the thread pool.', () => counters.pooledReads);
  total(
    'kura_cache_cold_synchronous_reads_total',
    'Sampled synchronous reads that went to the disk although the data was expected in the page cache.',
    () => counters.coldSyncReads,
  );
  gauge('kura_cache_read_window_bytes', 'Most recently used bytes that are expected in the page cache.', () => window.windowBytes);
  gauge('kura_cache_open_files', 'Descriptors that stay open between requests.', () => openFiles.size);
  gauge('kura_cache_buffer_bytes', 'Memory of bodies in transfer.', () => buffers.usedBytes);
  gauge('kura_cache_buffer_waiters', 'Requests that wait for a buffer.', () => buffers.waiters);
  gauge(
    'kura_cache_pending_file_calls',
    'File calls in the thread pool, and small files that the thread for them writes or removes.',
    () => counters.pendingFileCalls,
  );
  gauge('kura_cache_connections', 'Open connections.', numbers.connections);
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
  gauge('kura_cache_serving', '1 while the shard is ready, otherwise 0.', () => (numbers.isServing() ? 1 : 0));
  const diskErrors = {
    name: 'kura_cache_disk_errors_total',
    help: 'Faults of the file system by kind: read, write, full, descriptors, timeout.',
    label: 'kind',
  };
  registerTotals(registry, diskErrors, counters.diskErrors);
  registerNamespaces(registry, catalog);
  registerDatasets(registry, catalog);
  if (numbers.fills !== undefined) registerFills(registry, numbers.fills);
  return registerLoopDelay(registry);
}

function registerFills(registry: Registry, fills: FillNumbers): void {
  const gauge = (name: string, help: string, read: () => number) => registerGauge(registry, name, help, read);
  registerTotals(
    registry,
    {
      name: 'kura_cache_fills_total',
      help: 'Fills by result. `alone`: the shard does not store the object. `not-kept`: a PUT or DELETE came in between.',
      label: 'result',
    },
    fills.results,
  );
  registerTotal(
    registry,
    'kura_cache_fills_rejected_total',
    'Requests under /through/ that a bound of the fills has rejected.',
    () => fills.rejected,
  );
  registerTotal(registry, 'kura_cache_filled_bytes_total', 'Body bytes received from origins.', () => fills.receivedBytes);
  gauge('kura_cache_fills_in_flight', 'Requests that are open at the origin service.', () => fills.bounds.fills);
  gauge('kura_cache_fill_bytes_in_flight', 'Length of the objects that are being fetched.', () => fills.bounds.bytes);
  gauge('kura_cache_fill_waiters', 'Requests that wait for a fill or read its file.', () => fills.waiters);
}

function registerRequests(registry: Registry, counters: Counters): void {
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

/** Sums up all groups at each scrape, because no request needs the sums. 65,536 groups take a few milliseconds. */
function registerNamespaces(registry: Registry, catalog: Catalog): void {
  const gauge = (name: string, help: string, read: (use: NamespaceUse) => number | undefined) => {
    registry.registerMetric(
      new Gauge({
        name,
        help,
        labelNames: ['namespace'],
        registers: [],
        collect() {
          this.reset();
          for (const use of namespaceUse(catalog)) {
            const value = read(use);
            if (value !== undefined) this.set({ namespace: use.namespace }, value);
          }
        },
      }),
    );
  };
  gauge('kura_cache_namespace_objects', 'Stored objects by the namespace that wrote them.', ({ objects }) => objects);
  gauge(
    'kura_cache_namespace_bytes',
    'Bytes of stored objects by the namespace that wrote them, in blocks of 4 KiB.',
    ({ bytes }) => bytes,
  );
  gauge('kura_cache_namespace_share_ratio', 'Share of this shard by namespace, if the policy sets one.', ({ share }) => share);
}

/** Data sets that are listed by name. The rest is one sum, so that the number of series is bounded. */
const maxNamedDatasets = 100;

/**
 * The counters of a data set keep counting while it is not listed, so a data set that is listed again has not gone back. A sum of all others
 * would go back whenever a data set is listed, so only the gauges have it.
 */
function registerDatasets(registry: Registry, catalog: Catalog): void {
  let uses: readonly DatasetUse[] | undefined;
  /** One pass over the groups for all metrics of a scrape. */
  const read = () => {
    if (uses === undefined) setImmediate(() => (uses = undefined));
    uses ??= largestDatasets(catalog, maxNamedDatasets);
    return uses;
  };
  const gauge = (name: string, help: string, pick: (use: DatasetUse) => number) =>
    registry.registerMetric(
      new Gauge({
        name,
        help,
        labelNames: ['dataset'],
        registers: [],
        collect() {
          this.reset();
          for (const use of read()) this.set({ dataset: use.prefix }, pick(use));
        },
      }),
    );
  const total = (name: string, help: string, pick: (use: DatasetUse) => number) =>
    registry.registerMetric(
      new Counter({
        name,
        help,
        labelNames: ['dataset'],
        registers: [],
        collect() {
          this.reset();
          for (const use of read().slice(0, -1)) this.inc({ dataset: use.prefix }, pick(use));
        },
      }),
    );
  const listed = 'for the 100 data sets with most bytes. A data set is the first four segments of its keys.';
  gauge('kura_cache_dataset_objects', `Stored objects ${listed}`, ({ objects }) => objects);
  gauge('kura_cache_dataset_bytes', `Bytes of stored objects in blocks of 4 KiB, ${listed}`, ({ bytes }) => bytes);
  total('kura_cache_dataset_hits_total', `GETs of stored objects, ${listed}`, ({ hits }) => hits);
  total('kura_cache_dataset_misses_total', `GETs of keys that are not stored, ${listed}`, ({ misses }) => misses);
  total('kura_cache_dataset_evictions_total', `Evicted objects ${listed}`, ({ evictedObjects }) => evictedObjects);
  total('kura_cache_dataset_evicted_bytes_total', `Bytes of evicted objects ${listed}`, ({ evictedBytes }) => evictedBytes);
}

function registerGauge(registry: Registry, name: string, help: string, read: () => number): void {
  registry.registerMetric(
    new Gauge({
      name,
      help,
      registers: [],
      collect() {
        this.set(read());
      },
    }),
  );
}

function registerTotal(registry: Registry, name: string, help: string, read: () => number): void {
  registry.registerMetric(
    new Counter({
      name,
      help,
      registers: [],
      collect() {
        this.reset();
        this.inc(read());
      },
    }),
  );
}

/** Registers a counter with one label. `counts` has a number for each label value. Every scrape reads the same object. */
function registerTotals(
  registry: Registry,
  { name, help, label }: { name: string; help: string; label: string },
  counts: Readonly<Record<string, number>>,
): void {
  registry.registerMetric(
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: [],
      collect() {
        this.reset();
        for (const [value, count] of Object.entries(counts)) this.inc({ [label]: value }, count);
      },
    }),
  );
}

function registerLoopDelay(registry: Registry): () => void {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  registry.registerMetric(
    new Gauge({
      name: 'kura_cache_event_loop_delay_seconds',
      help: 'Delay of the event loop since the previous scrape, by quantile.',
      labelNames: ['quantile'],
      registers: [],
      collect() {
        for (const [quantile, percent] of [
          ['0.5', 50],
          ['0.99', 99],
          ['1', 100],
        ] as const)
          this.set({ quantile }, delay.percentile(percent) / 1e9);
        delay.reset();
      },
    }),
  );
  return () => delay.disable();
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
