/** The status page on the metrics port: `/` and `/status.json`. It is read-only and loads nothing from other hosts. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { CoreV1Event, V1ConfigMap } from '@kubernetes/client-node';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Logger } from '../../shared/log.ts';
import type { Route } from '../../shared/metrics.ts';
import { Reflector } from '../../shared/reflector.ts';
import type { Publisher } from '../publisher.ts';
import type { StreamList } from '../stream-list.ts';
import { KeySharesCache } from './key-shares.ts';
import { type PageAssets, pageOf } from './page.ts';
import { policyName, viewPolicy } from './policy.ts';
import { ShardWatch } from './shard-watch.ts';
import { type Status, statusOf } from './status.ts';

interface StatusOptions {
  readonly client: KubernetesClient;
  readonly namespace: string;
  readonly service: string;
  readonly placement: 'global' | 'zone';
  readonly publisher: Publisher;
  readonly streams: StreamList;
  /** Interval for reading the metrics of the shards; 0 = never. */
  readonly intervalMs: number;
  readonly log: Logger;
}

/** The page is built at most once in this time, for any number of readers. */
const pageAgeMs = 500;

export function startStatus(options: StatusOptions): { routes: Readonly<Record<string, Route>>; close: () => Promise<void> } {
  const { publisher, intervalMs, placement } = options;
  const watch = new ShardWatch({ shards: () => publisher.shards, intervalMs });
  const keyShares = new KeySharesCache({ placement });
  const policy = watchPolicy(options);
  const assets: PageAssets = { style: asset('page.css'), script: asset('page-live.js') };
  let made: { readonly at: number; readonly status: Promise<Status> } | undefined;
  const status = (): Promise<Status> => {
    if (made === undefined || performance.now() - made.at > pageAgeMs) made = { at: performance.now(), status: read() };
    return made.status;
  };
  const read = async (): Promise<Status> => {
    const { service, streams } = options;
    const shares = await keyShares.sharesOf(publisher.shards);
    const now = Date.now();
    return statusOf({
      at: new Date(now),
      service,
      isAsking: intervalMs > 0,
      isStale: publisher.isStale,
      shards: publisher.shards,
      held: publisher.held,
      streams: streams.views(),
      versionFor: (zone) => publisher.snapshot(zone)?.version,
      numbersOf: (hashKey) => watch.numbersOf(hashKey),
      keyShares: shares,
      minutes: watch.history.minutes(now),
      countedSince: new Date(watch.history.startedAt),
      policy: policy.view(),
    });
  };
  const answer =
    (headers: Readonly<Record<string, string>>, body: (status: Status) => string): Route =>
    (_request, response) => {
      status()
        .then(body)
        .then(
          (text) => response.writeHead(200, { ...headers, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }).end(text),
          (error: unknown) => {
            options.log.error({ err: error }, 'the status page failed');
            response.writeHead(500, { 'content-type': 'text/plain' }).end('the status page failed\n');
          },
        );
    };
  const page = { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': contentPolicy(assets) };
  return {
    routes: {
      '/': answer(page, (now) => pageOf(now, assets)),
      '/status.json': answer({ 'content-type': 'application/json' }, (now) => JSON.stringify(now, withMaps, 2)),
    },
    close: async () => {
      await Promise.all([watch.close(), policy.close()]);
    },
  };
}

/** The ConfigMap of the policy, and authz's Events about it. Without the rights to read them, the page reports that. */
function watchPolicy({ client, namespace, log }: StatusOptions) {
  let seenAt: Date | undefined;
  let text: string | undefined;
  const configMaps = new Reflector<V1ConfigMap>({
    client,
    path: `/api/v1/namespaces/${namespace}/configmaps`,
    fieldSelector: `metadata.name=${policyName}`,
    onChange: ({ object }) => {
      const news = JSON.stringify(object.data);
      if (text !== undefined && news !== text) seenAt = new Date();
      text = news;
    },
    log,
  });
  const events = new Reflector<CoreV1Event>({
    client,
    path: `/api/v1/namespaces/${namespace}/events`,
    fieldSelector: `involvedObject.kind=ConfigMap,involvedObject.name=${policyName}`,
    log,
  });
  return {
    view: () => viewPolicy(configMaps.get(`${namespace}/${policyName}`), events.objects(), seenAt),
    close: async () => {
      await Promise.all([configMaps.close(), events.close()]);
    },
  };
}

function asset(name: string): string {
  return readFileSync(path.join(import.meta.dirname, name), 'utf8');
}

/** Allows only the page's own style and script, by their hashes. The script may send requests only to eds. */
function contentPolicy({ style, script }: PageAssets): string {
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  return `default-src 'none'; style-src ${hash(style)}; script-src ${hash(script)}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
}

function withMaps(_name: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value;
}
