/**
 * One watch: sends the changes after a version as JSON lines, until the client leaves or the time is over. It reads the history as fast as
 * its client reads the lines. As in the real API, a client that falls behind the history is disconnected.
 */
import type { ServerResponse } from 'node:http';
import type { Change } from './history.ts';
import type { StoredObject } from './object.ts';
import type { Resource } from './resources.ts';
import type { Predicate } from './selectors.ts';
import { ApiError } from './status.ts';
import type { ObjectStore } from './store.ts';

interface WatchOptions {
  readonly store: ObjectStore;
  readonly resource: Resource;
  readonly matches: Predicate;
  /** Undefined: start with every existing object as an addition. */
  readonly since: number | undefined;
  /** Undefined: no bookmarks. */
  readonly bookmarkMs: number | undefined;
  readonly timeoutMs: number;
  /** The representation that the client requests: whole objects, or only their metadata. */
  readonly show: (object: StoredObject) => object;
}

/** Streams until the response closes. For a version that is too old, the response is 200 with an ERROR event, as in the real API. */
export function streamWatch(response: ServerResponse, options: WatchOptions): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
  try {
    new WatchStream(response, options).start();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    response.end(`${JSON.stringify({ type: 'ERROR', object: error.toStatus() })}\n`);
  }
}

class WatchStream {
  readonly #response: ServerResponse;
  readonly #options: WatchOptions;
  readonly #history: ReturnType<ObjectStore['history']>['history'];
  /** Existing objects that were not sent yet. */
  readonly #initial: StoredObject[];
  #position: number;
  /** The socket is full, because the client has not read its data. */
  #isFull = false;
  #stop = (): void => undefined;

  /** Throws ApiError (410). */
  constructor(response: ServerResponse, options: WatchOptions) {
    const { store, resource, matches, since } = options;
    this.#response = response;
    this.#options = options;
    ({ history: this.#history, position: this.#position } = store.history(resource, since));
    this.#initial = since === undefined ? store.list(resource).filter(matches).reverse() : [];
  }

  start(): void {
    const { store, resource, bookmarkMs, timeoutMs } = this.#options;
    const unsubscribe = store.subscribe(resource, () => this.#pump());
    const bookmarking = bookmarkMs === undefined ? undefined : setInterval(() => this.#bookmark(), bookmarkMs);
    const ending = setTimeout(() => this.#end(), timeoutMs);
    const resume = (): void => {
      this.#isFull = false;
      this.#pump();
    };
    this.#response.on('drain', resume);
    this.#stop = () => {
      unsubscribe();
      clearInterval(bookmarking);
      clearTimeout(ending);
      this.#response.off('drain', resume);
    };
    this.#response.once('close', this.#stop);
    this.#pump();
  }

  #pump(): void {
    while (!this.#isFull && !this.#response.destroyed) {
      const object = this.#initial.pop();
      if (object !== undefined) {
        this.#send('ADDED', object);
        continue;
      }
      const change = this.#history.at(this.#position);
      if (change === undefined) return;
      if (change === 'forgotten') {
        this.#response.destroy();
        return;
      }
      this.#position++;
      const event = eventOf(change, this.#options);
      if (event !== undefined) this.#send(event.type, event.object);
    }
  }

  /** A bookmark promises every change up to its version, so a client that is behind gets no bookmark. */
  #bookmark(): void {
    const { store, since = 0 } = this.#options;
    if (this.#isFull || this.#position !== this.#history.end || store.version < since) return;
    this.#send('BOOKMARK', { metadata: { resourceVersion: String(store.version) } } as StoredObject);
  }

  #send(type: string, object: StoredObject): void {
    this.#isFull = !this.#response.write(`${JSON.stringify({ type, object: this.#options.show(object) })}\n`);
  }

  #end(): void {
    // Comes first, because nothing may be written after the end.
    this.#stop();
    if (this.#isFull) this.#response.destroy();
    else this.#response.end();
  }
}

/** For this watch, an object that starts to match is added, and an object that no longer matches is deleted. */
function eventOf(
  { type, object, previous, version }: Change,
  { matches, since = 0 }: WatchOptions,
): { type: string; object: StoredObject } | undefined {
  // When `since` is a future version, changes up to that version are skipped.
  if (version <= since) return undefined;
  const didMatch = previous !== undefined && matches(previous);
  if (type === 'DELETED') return didMatch ? { type, object } : undefined;
  if (matches(object)) return { type: didMatch ? 'MODIFIED' : 'ADDED', object };
  if (!didMatch) return undefined;
  return { type: 'DELETED', object: { ...previous, metadata: { ...previous.metadata, resourceVersion: String(version) } } };
}
