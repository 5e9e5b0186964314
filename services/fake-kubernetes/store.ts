/** Pure: the objects of the stand-in with their versions and a bounded history, as etcd and the watch cache keep them for the real API. */
import { type Change, History } from './history.ts';
import { keyOf, type ObjectPlace, type StoredObject } from './object.ts';
import { type Resource, resources } from './resources.ts';
import { ApiError, expired, notFound } from './status.ts';

/** Objects that may exist, as JSON: all of them are held in memory. The real API refuses too when its database is full. */
const objectsLimitBytes = 64 * 2 ** 20;
/** etcd's own limit of one object. */
const objectLimitBytes = 1.5 * 2 ** 20;

/** One change as it is written down before it holds. */
export interface Entry {
  readonly version: number;
  readonly collection: string;
  /** Absent: the object of that key was removed. */
  readonly object?: StoredObject;
  readonly key: string;
}

interface StoreOptions {
  readonly restored: { readonly version: number; readonly entries: readonly Entry[] };
  /** Makes a change durable; one that throws undoes it. */
  readonly write: (entry: Entry) => void;
}

interface Collection {
  readonly name: string;
  readonly objects: Map<string, StoredObject>;
  readonly history: History;
  readonly watchers: Set<() => void>;
}

export class ObjectStore {
  readonly #collections = new Map<string, Collection>();
  readonly #write: (entry: Entry) => void;
  readonly #sizes = new WeakMap<StoredObject, number>();
  #totalBytes = 0;
  #version: number;

  constructor({ restored, write }: StoreOptions) {
    this.#version = restored.version;
    this.#write = write;
    for (const { plural } of resources) {
      this.#collections.set(plural, { name: plural, objects: new Map(), history: new History(this.#version), watchers: new Set() });
    }
    for (const { collection, key, object } of restored.entries) {
      if (object === undefined) continue;
      this.#collections.get(collection)?.objects.set(key, object);
      this.#resize(undefined, object, sizeOf(object));
    }
  }

  /** The version of the newest change of all. */
  get version(): number {
    return this.#version;
  }

  /** The version that the next change will have. */
  get nextVersion(): number {
    return this.#version + 1;
  }

  /** Every object, for a fresh start of whatever keeps them. */
  entries(): Entry[] {
    return [...this.#collections.values()].flatMap(({ name, objects }) =>
      [...objects].map(([key, object]) => ({ version: Number(object.metadata.resourceVersion), collection: name, key, object })),
    );
  }

  find(resource: Resource, at: ObjectPlace): StoredObject | undefined {
    return this.#of(resource).objects.get(keyOf(at));
  }

  /** Throws ApiError (404). */
  get(resource: Resource, at: ObjectPlace): StoredObject {
    const object = this.find(resource, at);
    if (object === undefined) throw notFound(resource, at.name);
    return object;
  }

  /** The objects of a collection in the order of their keys. */
  list(resource: Resource): StoredObject[] {
    return inOrder(this.#of(resource).objects);
  }

  /** The same as they were at an earlier version, or undefined when the changes since then are forgotten. */
  listAt(resource: Resource, version: number): StoredObject[] | undefined {
    const { objects, history } = this.#of(resource);
    const from = history.positionAfter(version);
    if (from === undefined) return undefined;
    if (from === history.end) return inOrder(objects);
    const then = new Map(objects);
    for (let position = history.end - 1; position >= from; position--) {
      const { object, previous } = history.at(position) as Change;
      if (previous === undefined) then.delete(keyOf(object.metadata));
      else then.set(keyOf(object.metadata), previous);
    }
    return inOrder(then);
  }

  /** Takes an object in; its `resourceVersion` is the next version. Throws ApiError (507) where there is no room. */
  put(resource: Resource, object: StoredObject): void {
    const collection = this.#of(resource);
    const key = keyOf(object.metadata);
    const sizeBytes = sizeOf(object);
    const previous = collection.objects.get(key);
    this.#requireRoom(sizeBytes, previous);
    this.#commit(collection, { type: previous === undefined ? 'ADDED' : 'MODIFIED', object, previous, sizeBytes });
  }

  /** Takes an object out; `last` is how it was shown then, with the next version. */
  remove(resource: Resource, last: StoredObject): void {
    const collection = this.#of(resource);
    const previous = collection.objects.get(keyOf(last.metadata));
    this.#commit(collection, { type: 'DELETED', object: last, previous, sizeBytes: sizeOf(last) });
  }

  /** The history of a collection. Throws ApiError (410) when `since` is too old for it. */
  history(resource: Resource, since?: number): { readonly history: History; readonly position: number } {
    const { history } = this.#of(resource);
    if (since === undefined) return { history, position: history.end };
    const position = history.positionAfter(since);
    if (position === undefined) throw expired({ asked: since, oldest: history.forgotten });
    return { history, position };
  }

  /** Calls `watcher` after each change of a collection, until the returned function is called. */
  subscribe(resource: Resource, watcher: () => void): () => void {
    const { watchers } = this.#of(resource);
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  }

  #of({ plural }: Resource): Collection {
    return this.#collections.get(plural) as Collection;
  }

  #requireRoom(sizeBytes: number, previous: StoredObject | undefined): void {
    if (sizeBytes > objectLimitBytes) {
      throw new ApiError({ code: 500, message: 'etcdserver: request is too large' });
    }
    const growth = sizeBytes - (previous === undefined ? 0 : (this.#sizes.get(previous) ?? 0));
    if (growth > 0 && this.#totalBytes + growth > objectsLimitBytes) {
      throw new ApiError({ code: 507, reason: 'InsufficientStorage', message: `the objects may take ${objectsLimitBytes} bytes in all` });
    }
  }

  #commit(collection: Collection, change: Omit<Change, 'version'>): void {
    const { type, object, previous } = change;
    const key = keyOf(object.metadata);
    const version = this.nextVersion;
    this.#write({ version, collection: collection.name, key, ...(type === 'DELETED' ? {} : { object }) });
    this.#version = version;
    if (type === 'DELETED') collection.objects.delete(key);
    else collection.objects.set(key, object);
    this.#resize(previous, type === 'DELETED' ? undefined : object, change.sizeBytes);
    collection.history.push({ ...change, version });
    for (const watcher of collection.watchers) watcher();
  }

  #resize(previous: StoredObject | undefined, next: StoredObject | undefined, sizeBytes: number): void {
    if (previous !== undefined) this.#totalBytes -= this.#sizes.get(previous) ?? 0;
    if (next === undefined) return;
    this.#totalBytes += sizeBytes;
    this.#sizes.set(next, sizeBytes);
  }
}

function inOrder(objects: ReadonlyMap<string, StoredObject>): StoredObject[] {
  return [...objects].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
}

function sizeOf(object: StoredObject): number {
  return Buffer.byteLength(JSON.stringify(object));
}
