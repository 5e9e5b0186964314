/** Pure: the objects with their versions and a limited history. In the real API, etcd and the watch cache keep these. */
import { type Change, History } from './history.ts';
import { keyOf, type ObjectPlace, type StoredObject } from './object.ts';
import type { Entry } from './object-files.ts';
import { type Resource, resources } from './resources.ts';
import { ApiError, expired, notFound } from './status.ts';

/** Limit for all objects together as JSON, because memory holds them. The real API also rejects changes when its database is full. */
const maxObjectsBytes = 64 * 2 ** 20;
/** The limit of etcd for one object. */
const maxObjectBytes = 1.5 * 2 ** 20;

interface Collection {
  readonly name: string;
  readonly objects: Map<string, StoredObject>;
  readonly history: History;
  readonly watchers: Set<() => void>;
}

export class ObjectStore {
  readonly #collections = new Map<string, Collection>();
  /** Makes a change durable. If it throws, the change does not happen. */
  readonly #write: (entry: Entry) => void;
  /** Size as JSON. The entry of a removed object disappears by itself. */
  readonly #sizes = new WeakMap<StoredObject, number>();
  #totalBytes = 0;
  #version: number;

  /** `firstVersion` should be above every version of an earlier process, so that no version is used twice. */
  constructor({ firstVersion, entries, write }: { firstVersion: number; entries: readonly Entry[]; write: (entry: Entry) => void }) {
    this.#version = entries.reduce((newest, { object }) => Math.max(newest, Number(object?.metadata.resourceVersion ?? 0)), firstVersion);
    this.#write = write;
    for (const { plural } of resources) {
      this.#collections.set(plural, { name: plural, objects: new Map(), history: new History(this.#version), watchers: new Set() });
    }
    for (const { collection, key, object } of entries) {
      if (object === undefined) continue;
      this.#collections.get(collection)?.objects.set(key, object);
      this.#resize(undefined, object, sizeOf(object));
    }
  }

  /** The version of the newest change in any collection. */
  get version(): number {
    return this.#version;
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

  /** The objects of a collection, sorted by key. */
  list(resource: Resource): StoredObject[] {
    return inOrder(this.#of(resource).objects);
  }

  /** The objects at an earlier version. Throws ApiError (410) when the changes since then are forgotten. */
  listAt(resource: Resource, version: number): StoredObject[] {
    const { history, position } = this.history(resource, version);
    const then = new Map(this.#of(resource).objects);
    for (let at = history.end - 1; at >= position; at--) {
      const { object, previous } = history.at(at) as Change;
      if (previous === undefined) then.delete(keyOf(object.metadata));
      else then.set(keyOf(object.metadata), previous);
    }
    return inOrder(then);
  }

  /**
   * Creates or replaces an object and returns it with its new version. Throws ApiError (500 or 507) when the object is too large or the
   * store is full.
   */
  put(resource: Resource, object: StoredObject): StoredObject {
    const previous = this.find(resource, object.metadata);
    const next = this.#withNextVersion(object);
    this.#requireRoom(sizeOf(next), previous);
    this.#commit(this.#of(resource), { type: previous === undefined ? 'ADDED' : 'MODIFIED', object: next, previous });
    return next;
  }

  /** Removes an object. Watches report `object` as its last state. */
  remove(resource: Resource, object: StoredObject): StoredObject {
    const previous = this.find(resource, object.metadata);
    const last = this.#withNextVersion(object);
    this.#commit(this.#of(resource), { type: 'DELETED', object: last, previous });
    return last;
  }

  /** The history of a collection, and the position of the first change after `since`. Throws ApiError (410) when `since` is too old. */
  history(resource: Resource, since?: number): { readonly history: History; readonly position: number } {
    const { history } = this.#of(resource);
    const position = since === undefined ? history.end : history.positionAfter(since);
    if (position === undefined) throw expired({ version: Number(since), forgotten: history.forgotten });
    return { history, position };
  }

  /** Calls `watcher` after each change of a collection. The returned function ends this. */
  subscribe(resource: Resource, watcher: () => void): () => void {
    const { watchers } = this.#of(resource);
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  }

  #of({ plural }: Resource): Collection {
    return this.#collections.get(plural) as Collection;
  }

  #withNextVersion(object: StoredObject): StoredObject {
    return { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version + 1) } };
  }

  #requireRoom(sizeBytes: number, previous: StoredObject | undefined): void {
    if (sizeBytes > maxObjectBytes) throw new ApiError({ code: 500, message: 'etcdserver: request is too large' });
    const growth = sizeBytes - (previous === undefined ? 0 : (this.#sizes.get(previous) ?? 0));
    if (growth > 0 && this.#totalBytes + growth > maxObjectsBytes) {
      const message = `all objects together may take ${maxObjectsBytes} bytes; delete some first`;
      throw new ApiError({ code: 507, reason: 'InsufficientStorage', message });
    }
  }

  #commit(collection: Collection, change: Omit<Change, 'version' | 'sizeBytes'>): void {
    const { type, object, previous } = change;
    const key = keyOf(object.metadata);
    const version = this.#version + 1;
    this.#write({ collection: collection.name, key, object: type === 'DELETED' ? undefined : object });
    this.#version = version;
    if (type === 'DELETED') collection.objects.delete(key);
    else collection.objects.set(key, object);
    const sizeBytes = sizeOf(object);
    this.#resize(previous, type === 'DELETED' ? undefined : object, sizeBytes);
    collection.history.push({ ...change, version, sizeBytes });
    for (const watcher of collection.watchers) watcher();
  }

  #resize(previous: StoredObject | undefined, next: StoredObject | undefined, sizeBytes: number): void {
    if (previous !== undefined) this.#totalBytes -= this.#sizes.get(previous) ?? 0;
    if (next === undefined) return;
    this.#sizes.set(next, sizeBytes);
    this.#totalBytes += sizeBytes;
  }
}

function inOrder(objects: ReadonlyMap<string, StoredObject>): StoredObject[] {
  return [...objects].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
}

function sizeOf(object: StoredObject): number {
  return Buffer.byteLength(JSON.stringify(object));
}
