/** What each namespace has stored, and its share. */
import type { Registry } from 'prom-client';
import type { Catalog } from '../index/catalog.ts';
import { type NamespaceUse, namespaceUse } from '../index/namespace-use.ts';
import { oncePerScrape, registerSeries } from './register.ts';

/** Sums up all groups at each scrape, because no request needs the sums. 65,536 groups take a few milliseconds. */
export function registerNamespaces(registry: Registry, catalog: Catalog): void {
  const uses = oncePerScrape(() => namespaceUse(catalog));
  const gauge = (name: string, help: string, pick: (use: NamespaceUse) => number | undefined) =>
    registerSeries(registry, { type: 'gauge', name, help, label: 'namespace' }, () =>
      uses().flatMap((use) => {
        const value = pick(use);
        return value === undefined ? [] : [[use.namespace, value] as const];
      }),
    );
  gauge('kura_cache_namespace_objects', 'Stored objects by the namespace that wrote them.', ({ objects }) => objects);
  gauge(
    'kura_cache_namespace_bytes',
    'Bytes of stored objects by the namespace that wrote them, in blocks of 4 KiB.',
    ({ bytes }) => bytes,
  );
  gauge('kura_cache_namespace_share_ratio', 'Share of this shard by namespace, if the policy sets one.', ({ share }) => share);
}
