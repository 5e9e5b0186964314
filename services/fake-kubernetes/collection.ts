/** The verbs of a whole collection: list, watch, create. */
import type { ClusterObjects } from './cluster-objects.ts';
import { type Exchange, readObject, sendJson } from './exchange.ts';
import { listPage, readInteger, readVersion, selection } from './listing.ts';
import { representationFor } from './representation.ts';
import type { ResourcePath } from './resources.ts';
import { methodNotAllowed, notServed, tooManyRequests } from './status.ts';
import type { ObjectStore } from './store.ts';
import { streamWatch } from './watch.ts';

/** Duration of a watch without `timeoutSeconds`. The real API chooses between 30 and 60 minutes. */
const defaultWatchSeconds = 1_800;
/** Far below the maximum of a timer. */
const maxWatchSeconds = 86_400;

export interface CollectionOptions {
  readonly store: ObjectStore;
  readonly cluster: ClusterObjects;
  readonly bookmarkMs: number;
  readonly maxWatches: number;
}

export class CollectionVerbs {
  readonly #options: CollectionOptions;
  #openWatches = 0;

  constructor(options: CollectionOptions) {
    this.#options = options;
  }

  /** Serves a request for a collection. Throws ApiError. */
  async handle(exchange: Exchange, at: ResourcePath): Promise<void> {
    const { method, query } = exchange;
    if (method === 'DELETE') throw notServed('the deletion of a whole collection');
    if (method === 'POST') return await this.#create(exchange, at);
    if (method !== 'GET') throw methodNotAllowed();
    if (['true', '1'].includes(query.get('watch') ?? '')) this.#watch(exchange, at);
    else this.#list(exchange, at);
  }

  #list({ message, query, response }: Exchange, at: ResourcePath): void {
    const representation = representationFor(at.resource, message.headers.accept);
    const { metadata, objects } = listPage(this.#options.store, at, query);
    sendJson(response, 200, representation.list(metadata, objects));
  }

  #watch({ message, query, response }: Exchange, at: ResourcePath): void {
    const { store, bookmarkMs, maxWatches } = this.#options;
    const representation = representationFor(at.resource, message.headers.accept);
    const since = readVersion(query);
    const matches = selection(at, query);
    const seconds = Math.min(readInteger(query, 'timeoutSeconds') ?? defaultWatchSeconds, maxWatchSeconds);
    // A client that left while its token was verified emits no further close event.
    if (response.closed) return;
    if (this.#openWatches >= maxWatches) throw tooManyRequests(`${maxWatches} watches are open, which is the limit`);
    this.#openWatches++;
    response.once('close', () => this.#openWatches--);
    streamWatch(response, {
      store,
      resource: at.resource,
      matches,
      since,
      bookmarkMs: ['true', '1'].includes(query.get('allowWatchBookmarks') ?? '') ? bookmarkMs : undefined,
      timeoutMs: seconds * 1000,
      show: representation.object,
    });
  }

  async #create(exchange: Exchange, { resource, namespace }: ResourcePath): Promise<void> {
    const representation = representationFor(resource, exchange.message.headers.accept);
    const input = await readObject(exchange, resource.kind);
    sendJson(exchange.response, 201, representation.object(this.#options.cluster.create(resource, { namespace, input })));
  }
}
