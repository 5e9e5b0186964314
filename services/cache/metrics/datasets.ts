/** The use of the largest data sets. */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Catalog } from '../index/catalog.ts';
import { type DatasetUse, largestDatasets } from '../index/dataset-totals.ts';

/** Data sets that are listed by name. The rest is one sum, so that the number of series is bounded. */
const maxNamedDatasets = 100;

/**
 * The counters of a data set keep counting while it is not listed, so a data set that is listed again has not gone back. A sum of all others
 * would go back whenever a data set is listed, so only the gauges have it.
 */
export function registerDatasets(registry: Registry, catalog: Catalog): void {
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
