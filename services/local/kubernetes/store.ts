/** Pure: the objects of the stand-in with their versions and a bounded history, as etcd keeps them for the real API. */
import { type Resource, resources } from './resources.ts';
import { alreadyExists, conflict, expired, invalid, notFound } from './status.ts';

export interface ObjectMetadata {
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly creationTimestamp: string;
  readonly generation?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly deletionTimestamp?: string;
  readonly deletionGracePeriodSeconds?: number;
}

/** An object without `kind` and `apiVersion`, which its resource says. */
export interface StoredObject {
  readonly metadata: ObjectMetadata;
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
  readonly [field: string]: unknown;
}

/** What a client sends: the same, with most metadata still to come. */
export type ObjectInput = Readonly<Record<string, unknown>> & {
  readonly metadata?: Partial<ObjectMetadata> & { readonly generateName?: string };
};

export interface StoreEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  readonly object: StoredObject;
  readonly previous: StoredObject | undefined;
}

export interface Snapshot {
  readonly version: number;
  readonly objects: Readonly<Record<string, readonly StoredObject[]>>;
}

/** Events kept a resource; whoever asks for older ones gets 410 and lists anew. */
export const historyLimit = 1_000;
/** Versions skipped at a start: changes that a killed process had not saved had versions too, and none is given twice. */
const versionGap = 1_000;

interface Collection {
  readonly objects: Map<string, StoredObject>;
  history: StoreEvent[];
  /** The newest version that is no longer in the history. */
  forgotten: number;
  readonly watchers: Set<(event: StoreEvent) => void>;
}

export class ObjectStore {
  readonly #collections = new Map<string, Collection>();
  readonly #now: () => Date;
  readonly #newUid: () => string;
  readonly #onChange: () => void;
  #version: number;

  constructor({
    snapshot,
    now,
    newUid,
    onChange,
  }: { snapshot: Snapshot | undefined; now: () => Date; newUid: () => string; onChange: () => void }) {
    this.#version = snapshot === undefined ? 1 : snapshot.version + versionGap;
    this.#now = now;
    this.#newUid = newUid;
    this.#onChange = onChange;
    for (const resource of resources) {
      const restored = snapshot?.objects[resource.plural] ?? [];
      const objects = new Map(restored.map((object) => [keyOf(object.metadata), object]));
      this.#collections.set(resource.plural, { objects, history: [], forgotten: this.#version, watchers: new Set() });
    }
  }

  get version(): number {
    return this.#version;
  }

  snapshot(): Snapshot {
    const objects = Object.fromEntries([...this.#collections].map(([plural, collection]) => [plural, [...collection.objects.values()]]));
    return { version: this.#version, objects };
  }

  find(resource: Resource, at: { namespace: string | undefined; name: string }): StoredObject | undefined {
    return this.#of(resource).objects.get(keyOf(at));
  }

  get(resource: Resource, at: { namespace: string | undefined; name: string }): StoredObject {
    const object = this.find(resource, at);
    if (object === undefined) throw notFound(resource, at.name);
    return object;
  }

  list(resource: Resource, namespace: string | undefined): StoredObject[] {
    const all = [...this.#of(resource).objects.values()];
    return namespace === undefined ? all : all.filter(({ metadata }) => metadata.namespace === namespace);
  }

  create(resource: Resource, namespace: string | undefined, { kind: _kind, apiVersion: _apiVersion, ...input }: ObjectInput): StoredObject {
    const { generateName, ...given } = input.metadata ?? {};
    const uid = this.#newUid();
    const name = given.name ?? (generateName === undefined ? '' : generateName + uid.slice(0, 5));
    if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(name)) {
      throw invalid(
        resource,
        name,
        name === '' ? 'metadata.name: Required value: name or generateName is required' : `metadata.name: Invalid value: "${name}"`,
      );
    }
    const collection = this.#of(resource);
    const at = { name, ...(namespace === undefined ? {} : { namespace }) };
    if (collection.objects.has(keyOf(at))) throw alreadyExists(resource, name);
    const version = ++this.#version;
    const metadata: ObjectMetadata = {
      ...given,
      ...at,
      uid,
      resourceVersion: String(version),
      creationTimestamp: this.#now()
        .toISOString()
        .replace(/\.\d+Z$/, 'Z'),
    };
    const object: StoredObject = { ...input, metadata };
    this.#commit(collection, { type: 'ADDED', version, object, previous: undefined });
    return object;
  }

  /** Replaces an object; a `resourceVersion` or `uid` in the input must be the present one. Nothing changed: nothing happens. */
  update(resource: Resource, previous: StoredObject, { kind: _kind, apiVersion: _apiVersion, ...input }: ObjectInput): StoredObject {
    const { name, namespace, uid, creationTimestamp, resourceVersion } = previous.metadata;
    const given = input.metadata ?? {};
    if (given.resourceVersion !== undefined && given.resourceVersion !== resourceVersion) throw conflict(resource, name);
    if (given.uid !== undefined && given.uid !== uid) throw conflict(resource, name);
    const kept = { name, ...(namespace === undefined ? {} : { namespace }), uid, creationTimestamp, resourceVersion };
    const candidate: StoredObject = { ...input, metadata: { ...given, ...kept } };
    if (JSON.stringify(sorted(candidate)) === JSON.stringify(sorted(previous))) return previous;
    const version = ++this.#version;
    const object: StoredObject = { ...candidate, metadata: { ...candidate.metadata, resourceVersion: String(version) } };
    this.#commit(this.#of(resource), { type: 'MODIFIED', version, object, previous });
    return object;
  }

  remove(resource: Resource, previous: StoredObject): StoredObject {
    const version = ++this.#version;
    const object = { ...previous, metadata: { ...previous.metadata, resourceVersion: String(version) } };
    this.#commit(this.#of(resource), { type: 'DELETED', version, object, previous });
    return object;
  }

  /** What happened after `version`, oldest first. Throws ApiError (410) when part of it is forgotten. */
  since(resource: Resource, version: number): readonly StoreEvent[] {
    const { history, forgotten } = this.#of(resource);
    if (version < forgotten) throw expired({ asked: version, oldest: forgotten });
    return history.filter((event) => event.version > version);
  }

  /** Calls `watcher` for each further event until the returned function is called. */
  subscribe(resource: Resource, watcher: (event: StoreEvent) => void): () => void {
    const { watchers } = this.#of(resource);
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  }

  #of({ plural }: Resource): Collection {
    return this.#collections.get(plural) as Collection;
  }

  #commit(collection: Collection, event: StoreEvent): void {
    const key = keyOf(event.object.metadata);
    if (event.type === 'DELETED') collection.objects.delete(key);
    else collection.objects.set(key, event.object);
    collection.history.push(event);
    if (collection.history.length > 2 * historyLimit) {
      const dropped = collection.history.splice(0, historyLimit);
      collection.forgotten = dropped[dropped.length - 1]?.version ?? collection.forgotten;
    }
    for (const watcher of collection.watchers) watcher(event);
    this.#onChange();
  }
}

function keyOf({ namespace, name }: { readonly namespace?: string | undefined; readonly name: string }): string {
  return `${namespace ?? ''}/${name}`;
}

/** The same value with every object's fields in one order, so that equal objects have equal JSON. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, part]) => part !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([field, part]) => [field, sorted(part)]),
  );
}
