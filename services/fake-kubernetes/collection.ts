/** The verbs of a whole collection: list, watch, create, delete. */
import type { ClusterObjects } from './cluster-objects.ts';
import { asKept, requireNewEvent } from './event-versions.ts';
import { answer, type Exchange, readObject } from './exchange.ts';
import { isTrue, readListOptions, readWatchOptions } from './list-options.ts';
import { listPage } from './listing.ts';
import { representationFor } from './representation.ts';
import type { ResourcePath } from './resources.ts';
import { type Predicate, parseFieldSelector, parseLabelSelector } from './selectors.ts';
import { readDeletion } from './single.ts';
import { methodNotAllowed, tooManyRequests } from './status.ts';
import type { ObjectStore } from './store.ts';
import { streamWatch } from './watch.ts';

/** A watch without `timeoutSeconds` ends after this; the real API chooses between 30 and 60 minutes. */
const defaultWatchSeconds = 1_800;
/** Far below what a timer can count. */
const longestWatchSeconds = 86_400;

export interface CollectionOptions {
  readonly store: ObjectStore;
  readonly cluster: ClusterObjects;
  readonly bookmarkMs: number;
  readonly watches: number;
}

/** Answers a request for a collection. Throws ApiError. */
export function createCollection({ store, cluster, bookmarkMs, watches }: CollectionOptions) {
  let openWatches = 0;

  return async (exchange: Exchange, at: ResourcePath): Promise<void> => {
    const isWatch = isTrue(exchange.query.get('watch'));
    if (exchange.method === 'GET') return isWatch ? watch(exchange, at) : list(exchange, at);
    if (exchange.method === 'POST') return await create(exchange, at);
    if (exchange.method === 'DELETE' && at.resource.plural !== 'namespaces') return await deleteAll(exchange, at);
    throw methodNotAllowed();
  };

  function list({ message, query, response }: Exchange, at: ResourcePath): void {
    const representation = representationFor(at.resource, message.headers.accept);
    const options = readListOptions(query);
    const { metadata, objects } = listPage(store, at.resource, selection(at, options), options);
    answer(response, 200, representation.list(metadata, objects));
  }

  function watch({ message, query, response }: Exchange, at: ResourcePath): void {
    const representation = representationFor(at.resource, message.headers.accept);
    const options = readWatchOptions(query);
    const matches = selection(at, options);
    // Whoever left while the credential was looked at would never be seen to leave.
    if (response.closed) return;
    if (openWatches >= watches) throw tooManyRequests(`more than ${watches} watches`);
    const sendsInitial = options.sendInitialEvents ?? options.resourceVersion === undefined;
    openWatches++;
    response.once('close', () => openWatches--);
    streamWatch(response, {
      store,
      resource: at.resource,
      matches,
      since: options.resourceVersion,
      sendsInitial,
      marksInitialEnd: sendsInitial && options.bookmarks,
      bookmarks: options.bookmarks,
      bookmarkMs,
      timeoutMs: Math.min(options.timeoutSeconds ?? defaultWatchSeconds, longestWatchSeconds) * 1000,
      show: representation.object,
    });
  }

  async function create(exchange: Exchange, { resource, namespace }: ResourcePath): Promise<void> {
    const representation = representationFor(resource, exchange.message.headers.accept);
    const input = await readObject(exchange, resource.kind);
    requireNewEvent(resource, input);
    const dryRun = exchange.query.get('dryRun') === 'All';
    const object = cluster.create(resource, { namespace, input: asKept(resource, input), dryRun });
    answer(exchange.response, 201, representation.object(object));
  }

  async function deleteAll(exchange: Exchange, at: ResourcePath): Promise<void> {
    const representation = representationFor(at.resource, exchange.message.headers.accept);
    const options = readListOptions(exchange.query);
    const deletion = await readDeletion(exchange);
    const { metadata, objects } = listPage(store, at.resource, selection(at, options), options);
    for (const { metadata: listed } of objects) {
      // The list may be of an earlier moment.
      const object = store.find(at.resource, listed);
      if (object?.metadata.uid === listed.uid) cluster.delete(at.resource, object, deletion);
    }
    answer(exchange.response, 200, representation.list(metadata, objects));
  }
}

/** Which objects of a collection the client asked for. */
function selection({ resource, namespace }: ResourcePath, options: { fieldSelector: string; labelSelector: string }): Predicate {
  const fields = parseFieldSelector(resource, options.fieldSelector);
  const labels = parseLabelSelector(options.labelSelector);
  return (object) => (namespace === undefined || object.metadata.namespace === namespace) && fields(object) && labels(object);
}
