/** One watch: what happened since a version, then what happens, as JSON lines until the client leaves or its time is over. */
import type { ServerResponse } from 'node:http';
import type { Resource } from './resources.ts';
import type { Predicate } from './selectors.ts';
import { ApiError } from './status.ts';
import type { ObjectStore, StoredObject, StoreEvent } from './store.ts';

/** A watcher that does not read is cut off before it costs more memory than this. */
const longestBacklogBytes = 16 * 2 ** 20;

export interface WatchOptions {
  readonly store: ObjectStore;
  readonly resource: Resource;
  readonly matches: Predicate;
  /** Undefined: begin with everything there is. */
  readonly since: number | undefined;
  readonly bookmarks: boolean;
  readonly bookmarkMs: number;
  /** Ends the initial events with a marked bookmark (WatchList). */
  readonly marksInitialEnd: boolean;
  readonly timeoutMs: number;
  /** How an object is shown: whole, or its metadata alone. */
  readonly show: (object: StoredObject) => object;
}

/** Streams until the response closes. */
export function streamWatch(response: ServerResponse, options: WatchOptions): void {
  const { store, resource, matches, since, show } = options;
  const past = since === undefined ? [] : pastEvents(store, resource, since);
  response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
  const send = (type: string, object: object): void => {
    response.write(`${JSON.stringify({ type, object })}\n`);
    if (response.writableLength > longestBacklogBytes) response.destroy();
  };
  const bookmark = (annotations?: Record<string, string>): void => {
    const metadata = {
      resourceVersion: String(store.version),
      creationTimestamp: null,
      ...(annotations === undefined ? {} : { annotations }),
    };
    send('BOOKMARK', show({ metadata } as unknown as StoredObject));
  };
  const tell = (event: StoreEvent): void => {
    const type = visibleType(event, matches);
    if (type !== undefined) send(type, show(event.object));
  };

  if (past instanceof ApiError) {
    send('ERROR', past.toStatus());
    response.end();
    return;
  }
  if (since === undefined) for (const object of store.list(resource, undefined)) if (matches(object)) send('ADDED', show(object));
  if (options.marksInitialEnd) bookmark({ 'k8s.io/initial-events-end': 'true' });
  for (const event of past) tell(event);
  const unsubscribe = store.subscribe(resource, tell);
  const bookmarking = options.bookmarks ? setInterval(bookmark, options.bookmarkMs) : undefined;
  const ending = setTimeout(() => response.end(), options.timeoutMs);
  response.on('close', () => {
    unsubscribe();
    clearInterval(bookmarking);
    clearTimeout(ending);
  });
}

/** A watch from too far back is answered with 200 and an ERROR event, as the real API does. */
function pastEvents(store: ObjectStore, resource: Resource, since: number): readonly StoreEvent[] | ApiError {
  try {
    return store.since(resource, since);
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
}

/** An object that comes to match or ceases to is added or deleted for this watcher, whatever really happened. */
function visibleType({ type, object, previous }: StoreEvent, matches: Predicate): string | undefined {
  const did = previous !== undefined && matches(previous);
  if (type === 'DELETED') return did ? 'DELETED' : undefined;
  const does = matches(object);
  if (does) return did ? 'MODIFIED' : 'ADDED';
  return did ? 'DELETED' : undefined;
}
