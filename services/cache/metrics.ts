/** Exports the numbers of a shard to Prometheus. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';
import type { Counters } from './counters.ts';
import type { Catalog } from './index/catalog.ts';
import { registerDatasets } from './metrics/datasets.ts';
import { type FillNumbers, registerFills } from './metrics/fills.ts';
import { registerNamespaces } from './metrics/namespaces.ts';
import { registerGauge, registerTotal, registerTotals } from './metrics/register.ts';
import { registerRequests } from './metrics/requests.ts';
import type { BufferPool } from './store/buffer-pool.ts';
import type { PageCacheWindow } from './store/page-cache-window.ts';

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
  registerRequests(registry, counters, numbers.connections);
  const total = (name: string, help: string, read: () => number) => registerTotal(registry, name, help, read);
  const gauge = (name: string, help: string, read: () => number) => registerGauge(registry, name, help, read);
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
    'File calls in the thread pool, and small files that the threads for them write, remove or read.',
    () => counters.pendingFileCalls,
  );
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
