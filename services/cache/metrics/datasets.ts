/** The use of the largest data sets. */
import type { Registry } from 'prom-client';
import type { Catalog } from '../index/catalog.ts';
import { type DatasetUse, largestDatasets } from '../index/dataset-totals.ts';
import { oncePerScrape, registerSeries } from './register.ts';

/** Data sets that are listed by name. The rest is one sum, so that the number of series is bounded. */
const maxNamedDatasets = 100;

/**
 * The counters of a data set keep counting while it is not listed, so a data set that is listed again has not gone back. A sum of all others
 * would go back whenever a data set is listed, so only the gauges have it.
 */
export function registerDatasets(registry: Registry, catalog: Catalog): void {
  const uses = oncePerScrape(() => largestDatasets(catalog, maxNamedDatasets));
  const series = (type: 'gauge' | 'counter', name: string, help: string, pick: (use: DatasetUse) => number) =>
    registerSeries(registry, { type, name, help, label: 'dataset' }, () =>
      (type === 'gauge' ? uses() : uses().slice(0, -1)).map((use) => [use.prefix, pick(use)] as const),
    );
  const listed = 'for the 100 data sets with most bytes. A data set is the first four segments of its keys.';
  series('gauge', 'kura_cache_dataset_objects', `Stored objects ${listed}`, ({ objects }) => objects);
  series('gauge', 'kura_cache_dataset_bytes', `Bytes of stored objects in blocks of 4 KiB, ${listed}`, ({ bytes }) => bytes);
  series('counter', 'kura_cache_dataset_hits_total', `GETs of stored objects, ${listed}`, ({ hits }) => hits);
  series('counter', 'kura_cache_dataset_misses_total', `GETs of keys that are not stored, ${listed}`, ({ misses }) => misses);
  series('counter', 'kura_cache_dataset_evictions_total', `Evicted objects ${listed}`, ({ evictedObjects }) => evictedObjects);
  series('counter', 'kura_cache_dataset_evicted_bytes_total', `Bytes of evicted objects ${listed}`, ({ evictedBytes }) => evictedBytes);
}
