/**
 * One watch: what happened since a version, then what happens, as JSON lines until the client leaves or its time is over. It reads the history at the pace at
 * which its client takes the lines, so a slow client costs no memory; one that falls out of the history is cut off, as the real API does.
 */
import type { ServerResponse } from 'node:http';
import type { Change } from './history.ts';
import type { StoredObject } from './object.ts';
import type { Resource } from './resources.ts';
import type { Predicate } from './selectors.ts';
import { ApiError } from './status.ts';
import type { ObjectStore } from './store.ts';

interface WatchStream {
  readonly store: ObjectStore;
  readonly resource: Resource;
  readonly matches: Predicate;
  /** Undefined: begin with now. */
  readonly since: number | undefined;
  /** Begin with everything there is, as additions. */
  readonly sendsInitial: boolean;
  /** Then tell by a marked bookmark that this was everything. */
  readonly marksInitialEnd: boolean;
  readonly bookmarks: boolean;
  readonly bookmarkMs: number;
  readonly timeoutMs: number;
  /** How an object is shown: whole, or its metadata alone. */
  readonly show: (object: StoredObject) => object;
}

/** Streams until the response closes. A version that is too old is answered with 200 and an ERROR event, as by the real API. */
export function streamWatch(response: ServerResponse, options: WatchStream): void {
  const { store, resource, show } = options;
  const start = startOf(options);
  response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
  if (start instanceof ApiError) {
    response.end(`${JSON.stringify({ type: 'ERROR', object: start.toStatus() })}\n`);
    return;
  }
  const { initial, history } = start;
  let { position } = start;
  let isFull = false;
  const send = (type: string, object: object): void => {
    isFull = !response.write(`${JSON.stringify({ type, object })}\n`);
  };
  const pump = (): void => {
    while (!isFull && !response.destroyed) {
      const first = initial.next();
      if (!first.done) {
        send(first.value.type, first.value.object);
        continue;
      }
      const change = history.at(position);
      if (change === undefined) return;
      if (change === 'forgotten') {
        response.destroy();
        return;
      }
      position++;
      const event = eventOf(change, options);
      if (event !== undefined) send(event.type, show(event.object));
    }
  };
  // A bookmark says that everything up to its version was told; a client that is behind gets its next one when it has caught up.
  const bookmark = (): void => {
    const hasToldAll = !isFull && position === history.end && store.version >= (options.since ?? 0);
    if (hasToldAll) send('BOOKMARK', show(bookmarkAt(store.version)));
  };
  const unsubscribe = store.subscribe(resource, pump);
  const bookmarking = options.bookmarks ? setInterval(bookmark, options.bookmarkMs) : undefined;
  const stop = (): void => {
    unsubscribe();
    clearInterval(bookmarking);
    clearTimeout(ending);
    response.off('drain', resume);
  };
  const ending = setTimeout(() => {
    // Before the end, since nothing may be written after it.
    stop();
    if (isFull) response.destroy();
    else response.end();
  }, options.timeoutMs);
  const resume = (): void => {
    isFull = false;
    pump();
  };
  response.on('drain', resume);
  response.once('close', stop);
  pump();
}

function startOf({ store, resource, matches, since, sendsInitial, marksInitialEnd, show }: WatchStream) {
  try {
    const { history, position } = store.history(resource, sendsInitial ? undefined : since);
    const objects = sendsInitial ? store.list(resource).filter(matches) : [];
    const end = bookmarkAt(store.version, { 'k8s.io/initial-events-end': 'true' });
    const initial = (function* () {
      for (const object of objects) yield { type: 'ADDED', object: show(object) };
      if (marksInitialEnd) yield { type: 'BOOKMARK', object: show(end) };
    })();
    return { history, position, initial };
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
}

/** Of an object's metadata a bookmark has only this. */
function bookmarkAt(version: number, annotations?: Readonly<Record<string, string>>): StoredObject {
  return { metadata: { resourceVersion: String(version), ...(annotations === undefined ? {} : { annotations }) } } as StoredObject;
}

/** An object that comes to match or ceases to is added or deleted for this watcher, whatever really happened. */
function eventOf(
  { type, object, previous, version }: Change,
  { matches, since = 0 }: WatchStream,
): { type: string; object: StoredObject } | undefined {
  // After a version from the future nothing is new until that version has passed.
  if (version <= since) return undefined;
  const did = previous !== undefined && matches(previous);
  if (type === 'DELETED') return did ? { type, object } : undefined;
  if (matches(object)) return { type: did ? 'MODIFIED' : 'ADDED', object };
  if (!did) return undefined;
  // What the watcher loses sight of is shown as it saw it last.
  return { type: 'DELETED', object: { ...previous, metadata: { ...previous.metadata, resourceVersion: String(version) } } };
}
