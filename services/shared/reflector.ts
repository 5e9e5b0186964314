/**
 * Keeps a local copy of a Kubernetes collection by list and watch, as client-go's reflector does, and tells what changed. client-node's informer stops at the
 * first error and knows neither bookmarks nor field selectors (facts/kubernetes.md), hence our own.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { KubernetesObject } from '@kubernetes/client-node';
import type { KubernetesClient } from './kubernetes.ts';
import { readLines } from './lines.ts';
import type { Logger } from './log.ts';
import { type ObjectChange, ObjectCopies } from './object-copies.ts';

const pageSize = 500;
/** A request that is not answered by now is given up. */
const answerLimitMs = 10_000;
/** Bookmarks come about every 60 s; a watch that is silent for longer is dead. */
const silenceLimitMs = 90_000;
const firstBackOffMs = 200;
const longestBackOffMs = 10_000;
/** A watch that lived this long was a good one: what follows it starts without back-off. */
const goodWatchMs = 5_000;
const longestLineBytes = 8 * 2 ** 20;
const metadataOnlyType = (kind: string): string => `application/json;as=${kind};g=meta.k8s.io;v=v1`;

interface ReflectorOptions<T extends KubernetesObject> {
  readonly client: KubernetesClient;
  /** The collection, such as `/apis/discovery.k8s.io/v1/namespaces/kura-system/endpointslices`. */
  readonly path: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Objects come with their metadata alone (PartialObjectMetadata). */
  readonly metadataOnly?: boolean;
  readonly onChange?: (change: ObjectChange<T>) => void;
  /** After every full list that was taken over, the first one and those after an outage. */
  readonly onSynced?: () => void;
  readonly log: Logger;
  readonly silenceMs?: number;
}

interface Reflector<T extends KubernetesObject> {
  objects(): Iterable<T>;
  /** By `<namespace>/<name>`, or the name alone where the kind has no namespace. */
  get(key: string): T | undefined;
  /** True once a full list has come; it stays true, since the copy stays too. */
  readonly synced: boolean;
  /** True while a watch is open. */
  readonly healthy: boolean;
  /** When the API last said anything, in milliseconds since the epoch. */
  readonly lastContact: number | undefined;
  close(): Promise<void>;
}

/** The API refused or broke off; `expired` where only a new list helps. */
class WatchError extends Error {
  readonly code = 'WATCH';
  readonly expired: boolean;
  constructor(message: string, { expired = false }: { expired?: boolean } = {}) {
    super(message);
    this.expired = expired;
  }
}

/** Starts at once and goes on until it is closed, whatever the API does. */
export function startReflector<T extends KubernetesObject>(options: ReflectorOptions<T>): Reflector<T> {
  const { client, path, log, silenceMs = silenceLimitMs } = options;
  const stopping = new AbortController();
  const copies = new ObjectCopies<T>((change) => options.onChange?.(change));
  let resourceVersion: string | undefined;
  let lastContact: number | undefined;
  let synced = false;
  let healthy = false;
  const work = run();
  return {
    objects: () => copies.all(),
    get: (key) => copies.get(key),
    get synced() {
      return synced;
    },
    get healthy() {
      return healthy;
    },
    get lastContact() {
      return lastContact;
    },
    close: async () => {
      stopping.abort();
      await work;
    },
  };

  async function run(): Promise<void> {
    let failures = 0;
    while (!stopping.signal.aborted) {
      const startedAt = performance.now();
      try {
        if (resourceVersion === undefined) await list();
        await watch();
        if (performance.now() - startedAt > goodWatchMs) failures = 0;
        else failures++;
      } catch (error) {
        if (stopping.signal.aborted) break;
        // A connection that broke may have been to another API server or another past: a version from the future would be accepted silently, so list anew.
        resourceVersion = undefined;
        if (failures === 0 && !(error instanceof WatchError && error.expired)) {
          log.warn({ path, reason: (error as Error).message }, 'lost contact with the Kubernetes API; what is known stays');
        }
        failures = performance.now() - startedAt > goodWatchMs ? 1 : failures + 1;
      }
      healthy = false;
      if (failures > 0) await pause(failures);
    }
    healthy = false;
  }

  async function pause(failures: number): Promise<void> {
    const longest = Math.min(firstBackOffMs * 2 ** (failures - 1), longestBackOffMs);
    await delay(longest * (0.5 + Math.random() / 2), undefined, { signal: stopping.signal }).catch(() => undefined);
  }

  async function list(): Promise<void> {
    const items: T[] = [];
    let position: string | undefined;
    let version: string;
    do {
      const page = await getPage(position);
      // An empty list of metadata alone comes as null.
      items.push(...(page.items ?? []));
      position = page.metadata.continue || undefined;
      version = page.metadata.resourceVersion;
    } while (position !== undefined);
    copies.replace(items);
    resourceVersion = version;
    if (lastContact !== undefined && synced) log.info({ path, objects: items.length }, 'listed anew');
    synced = true;
    options.onSynced?.();
  }

  async function getPage(position: string | undefined): Promise<Page<T>> {
    const { statusCode, body } = await open('PartialObjectMetadataList', AbortSignal.timeout(answerLimitMs), {
      limit: String(pageSize),
      continue: position,
    });
    const text = await body.text();
    lastContact = Date.now();
    if (statusCode !== 200) throw new WatchError(`list answered ${statusCode}`);
    return JSON.parse(text) as Page<T>;
  }

  /** Returns when the API ends the watch in good order. */
  async function watch(): Promise<void> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), answerLimitMs);
    const alive = (): void => {
      clearTimeout(timer);
      lastContact = Date.now();
      timer = setTimeout(() => silence.abort(), silenceMs);
    };
    try {
      const { statusCode, body } = await open('PartialObjectMetadata', silence.signal, {
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion,
      });
      if (statusCode !== 200) {
        await body.dump();
        throw new WatchError(`watch answered ${statusCode}`, { expired: statusCode === 410 });
      }
      alive();
      healthy = true;
      for await (const line of readLines(body, longestLineBytes)) {
        alive();
        take(JSON.parse(line) as WatchEvent<T>);
      }
    } catch (error) {
      throw silence.signal.aborted ? new WatchError('the watch fell silent') : error;
    } finally {
      clearTimeout(timer);
    }
  }

  function take({ type, object }: WatchEvent<T>): void {
    if (type === 'ERROR') {
      const { code, message } = object as { code?: number; message?: string };
      throw new WatchError(`watch: ${message}`, { expired: code === 410 });
    }
    if (type === 'ADDED' || type === 'MODIFIED') copies.set(object);
    else if (type === 'DELETED') copies.delete(object);
    resourceVersion = object.metadata?.resourceVersion;
  }

  function open(metadataKind: string, deadline: AbortSignal, query: Record<string, string | undefined>) {
    const { labelSelector, fieldSelector, metadataOnly = false } = options;
    return client.open(path, {
      query: { labelSelector, fieldSelector, ...query },
      headers: { accept: metadataOnly ? metadataOnlyType(metadataKind) : 'application/json' },
      signal: AbortSignal.any([stopping.signal, deadline]),
    });
  }
}

interface Page<T> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly T[] | null;
}

interface WatchEvent<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: T;
}
