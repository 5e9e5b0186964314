/**
 * Keeps a local copy of a Kubernetes collection by list and watch, and reports changes. It works like client-go's reflector. client-node's
 * informer stops at the first error and supports neither bookmarks nor field selectors.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { KubernetesObject } from '@kubernetes/client-node';
import type { KubernetesClient } from './kubernetes.ts';
import { readLines } from './lines.ts';
import type { Logger } from './log.ts';
import { type ObjectChange, ObjectCopies } from './object-copies.ts';

const pageSize = 500;
/** A request without a response within this time fails. */
const maxAnswerMs = 10_000;
/** Bookmarks arrive about every 60 s, so a watch that is silent for longer is dead. */
const maxSilenceMs = 90_000;
const firstBackoffMs = 200;
const maxBackoffMs = 10_000;
/** After a watch that lived this long, the next one starts without back-off. */
const goodWatchMs = 5_000;
const maxLineBytes = 8 * 2 ** 20;
const metadataOnlyType = (kind: string): string => `application/json;as=${kind};g=meta.k8s.io;v=v1`;

interface ReflectorOptions<T extends KubernetesObject> {
  readonly client: KubernetesClient;
  /** The path of the collection, such as `/apis/discovery.k8s.io/v1/namespaces/kura-system/endpointslices`. */
  readonly path: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Requests only the metadata of objects (PartialObjectMetadata). */
  readonly metadataOnly?: boolean;
  readonly onChange?: (change: ObjectChange<T>) => void;
  /** Called after every full list: after the first one, and after each outage. */
  readonly onSynced?: () => void;
  readonly log: Logger;
  readonly silenceMs?: number;
}

/** The API rejected a request or ended a watch with an error. `expired`: only a new list helps. */
class WatchError extends Error {
  readonly code = 'WATCH';
  readonly expired: boolean;
  constructor(message: string, { expired = false }: { expired?: boolean } = {}) {
    super(message);
    this.expired = expired;
  }
}

/** Starts immediately and runs until it is closed, also while the API fails. */
export class Reflector<T extends KubernetesObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #copies: ObjectCopies<T>;
  readonly #stopping = new AbortController();
  readonly #work: Promise<void>;
  #resourceVersion: string | undefined;
  #lastContact: number | undefined;
  #synced = false;
  #healthy = false;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#copies = new ObjectCopies<T>((change) => options.onChange?.(change));
    this.#work = this.#run();
  }

  objects(): Iterable<T> {
    return this.#copies.all();
  }

  /** The key is `<namespace>/<name>`, or the name for a kind without namespaces. */
  get(key: string): T | undefined {
    return this.#copies.get(key);
  }

  /** True after the first full list. It stays true, because the copy stays too. */
  get synced(): boolean {
    return this.#synced;
  }

  /** True while a watch is open. */
  get healthy(): boolean {
    return this.#healthy;
  }

  /** When the API last sent anything, in milliseconds since the epoch. */
  get lastContact(): number | undefined {
    return this.#lastContact;
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#work;
  }

  async #run(): Promise<void> {
    const { path, log } = this.#options;
    const { signal } = this.#stopping;
    let failures = 0;
    while (!signal.aborted) {
      const startedAt = performance.now();
      try {
        if (this.#resourceVersion === undefined) await this.#list();
        await this.#watch();
        failures = isGoodWatch(startedAt) ? 0 : failures + 1;
      } catch (error) {
        if (signal.aborted) break;
        // The next connection may reach another API server or a restored one. Such a server would accept a version from the future without
        // an error, so list again.
        this.#resourceVersion = undefined;
        if (failures === 0 && !(error instanceof WatchError && error.expired)) {
          log.warn({ path, reason: (error as Error).message }, 'lost contact with the Kubernetes API; keeping the known objects');
        }
        failures = isGoodWatch(startedAt) ? 1 : failures + 1;
      }
      this.#healthy = false;
      if (failures > 0) await this.#pause(failures);
    }
    this.#healthy = false;
  }

  async #pause(failures: number): Promise<void> {
    const backoffMs = Math.min(firstBackoffMs * 2 ** (failures - 1), maxBackoffMs);
    await delay(backoffMs * (0.5 + Math.random() / 2), undefined, { signal: this.#stopping.signal }).catch(() => undefined);
  }

  async #list(): Promise<void> {
    const { path, log, onSynced } = this.#options;
    const items: T[] = [];
    let position: string | undefined;
    let version: string;
    do {
      const page = await this.#getPage(position);
      // An empty list of metadata has null as its items.
      items.push(...(page.items ?? []));
      position = page.metadata.continue || undefined;
      version = page.metadata.resourceVersion;
    } while (position !== undefined);
    this.#copies.replace(items);
    this.#resourceVersion = version;
    if (this.#synced) log.info({ path, objects: items.length }, 'listed the collection again');
    this.#synced = true;
    onSynced?.();
  }

  async #getPage(position: string | undefined): Promise<Page<T>> {
    const { statusCode, body } = await this.#open('PartialObjectMetadataList', AbortSignal.timeout(maxAnswerMs), {
      limit: String(pageSize),
      continue: position,
    });
    const text = await body.text();
    this.#lastContact = Date.now();
    if (statusCode !== 200) throw new WatchError(`the list returned ${statusCode}`);
    return JSON.parse(text) as Page<T>;
  }

  /** Returns when the API ends the watch without an error. */
  async #watch(): Promise<void> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), maxAnswerMs);
    const alive = (): void => {
      clearTimeout(timer);
      this.#lastContact = Date.now();
      timer = setTimeout(() => silence.abort(), this.#options.silenceMs ?? maxSilenceMs);
    };
    try {
      const { statusCode, body } = await this.#open('PartialObjectMetadata', silence.signal, {
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion: this.#resourceVersion,
      });
      if (statusCode !== 200) {
        await body.dump();
        throw new WatchError(`the watch returned ${statusCode}`, { expired: statusCode === 410 });
      }
      alive();
      this.#healthy = true;
      for await (const line of readLines(body, maxLineBytes)) {
        alive();
        this.#take(JSON.parse(line) as WatchEvent<T>);
      }
    } catch (error) {
      throw silence.signal.aborted ? new WatchError('the watch sent nothing within its limit') : error;
    } finally {
      clearTimeout(timer);
    }
  }

  #take({ type, object }: WatchEvent<T>): void {
    if (type === 'ERROR') {
      const { code, message } = object as { code?: number; message?: string };
      throw new WatchError(`watch: ${message}`, { expired: code === 410 });
    }
    if (type === 'ADDED' || type === 'MODIFIED') this.#copies.set(object);
    else if (type === 'DELETED') this.#copies.delete(object);
    this.#resourceVersion = object.metadata?.resourceVersion;
  }

  #open(metadataKind: string, deadline: AbortSignal, query: Record<string, string | undefined>) {
    const { client, path, labelSelector, fieldSelector, metadataOnly = false } = this.#options;
    return client.open(path, {
      query: { labelSelector, fieldSelector, ...query },
      headers: { accept: metadataOnly ? metadataOnlyType(metadataKind) : 'application/json' },
      signal: AbortSignal.any([this.#stopping.signal, deadline]),
    });
  }
}

function isGoodWatch(startedAt: number): boolean {
  return performance.now() - startedAt > goodWatchMs;
}

interface Page<T> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly T[] | null;
}

interface WatchEvent<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: T;
}
