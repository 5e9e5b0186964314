/** Pure: how objects come to be, change and go, as the real API's registries do it (staging/src/k8s.io/apiserver/pkg/registry/rest). */
import { asCreated, onNode, withDefaults } from './defaults.ts';
import { deletionOf } from './deletion.ts';
import { type ObjectInput, type ObjectMetadata, type StoredObject, timestamp } from './object.ts';
import { namespaces, nodes, type Resource, resources } from './resources.ts';
import { ApiError, alreadyExists, badRequest, conflict, terminating } from './status.ts';
import type { ObjectStore } from './store.ts';
import { inOneOrder, requireForm, requireValid, requireValidChange } from './validation.ts';

/** Letters and digits of generated names, without those that make words or look alike. */
const nameLetters = 'bcdfghjklmnpqrstvwxz2456789';

interface ClusterOptions {
  readonly store: ObjectStore;
  readonly now: () => Date;
  readonly newUid: () => string;
  /** Between 0 and 1. */
  readonly random: () => number;
}

export interface Deletion {
  readonly graceSeconds: number | undefined;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } | undefined;
  readonly dryRun: boolean;
}

export class ClusterObjects {
  readonly #store: ObjectStore;
  readonly #options: ClusterOptions;

  constructor(options: ClusterOptions) {
    this.#store = options.store;
    this.#options = options;
  }

  /** Throws ApiError for what the real API refuses. */
  create(
    resource: Resource,
    { namespace, input, dryRun }: { namespace: string | undefined; input: ObjectInput; dryRun: boolean },
  ): StoredObject {
    requireForm(resource, input);
    this.#requireNamespace(resource, namespace, input);
    const { kind: _kind, apiVersion: _apiVersion, metadata: given = {}, ...fields } = input;
    if (given.resourceVersion) {
      throw new ApiError({ code: 500, message: 'resourceVersion should not be set on objects to be created' });
    }
    const name = given.name || (given.generateName ? given.generateName + this.#suffix() : '');
    const made: StoredObject = {
      ...fields,
      metadata: {
        ...ownMetadata(given),
        name,
        ...(namespace === undefined ? {} : { namespace }),
        uid: this.#options.newUid(),
        resourceVersion: String(this.#store.nextVersion),
        creationTimestamp: timestamp(this.#options.now()),
        ...(resource.countsGenerations ? { generation: 1 } : {}),
      },
    };
    const object = asCreated(resource, withDefaults(resource, made), this.#nodeOf(made));
    requireValid(resource, object);
    if (this.#store.find(resource, { namespace, name }) !== undefined) throw alreadyExists(resource, name);
    if (dryRun) return withoutVersion(object);
    this.#store.put(resource, object);
    return object;
  }

  /** Replaces an object, or its `status` alone. A `resourceVersion` or `uid` in the input must be the present one. Nothing changed: nothing happens. */
  update(
    resource: Resource,
    { previous, input, part, dryRun }: { previous: StoredObject; input: ObjectInput; part: 'status' | 'rest'; dryRun: boolean },
  ): StoredObject {
    requireForm(resource, input);
    requireSame(resource, previous, input);
    const next = part === 'status' ? { ...previous, status: input.status ?? {} } : replaced(resource, previous, input);
    requireValid(resource, next);
    if (part === 'rest') requireValidChange(resource, { previous, next });
    if (JSON.stringify(inOneOrder(next)) === JSON.stringify(inOneOrder(previous))) return previous;
    const generation = counted(resource, previous, next);
    const metadata = { ...next.metadata, ...generation, resourceVersion: String(this.#store.nextVersion) };
    const object: StoredObject = { ...next, metadata };
    if (dryRun) return object;
    const isReleased = previous.metadata.deletionTimestamp !== undefined && !previous.metadata.deletionGracePeriodSeconds;
    if (!isReleased || object.metadata.finalizers?.length) this.#store.put(resource, object);
    else if (resource.plural === 'namespaces') this.#removeNamespace(object);
    else this.#store.remove(resource, object);
    return object;
  }

  /** Deletes at once or marks, as the kind does; returns how the object was last, and whether it is gone. */
  delete(
    resource: Resource,
    object: StoredObject,
    { graceSeconds, preconditions, dryRun }: Deletion,
  ): { last: StoredObject; gone: boolean } {
    requirePreconditions(resource, object, preconditions);
    const isNamespace = resource.plural === 'namespaces';
    const ending = isNamespace ? { ...object, status: { ...object.status, phase: 'Terminating' } } : object;
    const deletion = deletionOf({ resource, object: ending, graceSeconds, now: this.#options.now() });
    if (dryRun) return { last: object, gone: deletion.kind === 'remove' };
    if (deletion.kind === 'mark') return { last: this.#put(resource, object, deletion.marked), gone: false };
    const last = deletion.last === undefined ? object : this.#put(resource, object, deletion.last);
    return { last: isNamespace ? this.#removeNamespace(last) : this.#remove(resource, last), gone: true };
  }

  /** Puts a Pod on a node. */
  bind(resource: Resource, pod: StoredObject, nodeName: string): void {
    if (pod.spec?.nodeName) {
      const why = `pod ${pod.metadata.name} is already assigned to node "${pod.spec.nodeName}"`;
      throw conflict({ ...resource, plural: 'pods/binding' }, pod.metadata.name, why);
    }
    const scheduled = { type: 'PodScheduled', status: 'True', lastProbeTime: null, lastTransitionTime: timestamp(this.#options.now()) };
    const conditions = Array.isArray(pod.status?.conditions) ? pod.status.conditions : [];
    const bound = { ...pod, spec: { ...pod.spec, nodeName }, status: { ...pod.status, conditions: [...conditions, scheduled] } };
    this.#put(resource, pod, onNode(bound, this.#nodeOf(bound)));
  }

  /** There is no namespace controller: what is in a namespace goes with it, at once. */
  #removeNamespace(namespace: StoredObject): StoredObject {
    const { name } = namespace.metadata;
    const collections = new Map(resources.filter(({ namespaced }) => namespaced).map((resource) => [resource.plural, resource]));
    for (const resource of collections.values()) {
      for (const inside of this.#store.list(resource)) if (inside.metadata.namespace === name) this.#remove(resource, inside);
    }
    this.#remove(namespaces, namespace);
    return namespace;
  }

  #put(resource: Resource, previous: StoredObject, next: StoredObject): StoredObject {
    if (next === previous) return previous;
    const object = { ...next, metadata: { ...next.metadata, resourceVersion: String(this.#store.nextVersion) } };
    this.#store.put(resource, object);
    return object;
  }

  #remove(resource: Resource, object: StoredObject): StoredObject {
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#store.nextVersion) } };
    this.#store.remove(resource, last);
    return last;
  }

  #requireNamespace(resource: Resource, name: string | undefined, { metadata: given }: ObjectInput): void {
    if (given?.namespace && given.namespace !== name) {
      throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
    }
    if (!resource.namespaced) return;
    if (name === undefined) throw badRequest('an empty namespace may not be set during creation');
    const { metadata } = this.#store.get(namespaces, { name });
    if (metadata.deletionTimestamp !== undefined) throw terminating(resource, { namespace: name, name: given?.name ?? '' });
  }

  #nodeOf({ spec }: StoredObject): StoredObject | undefined {
    return typeof spec?.nodeName === 'string' ? this.#store.find(nodes, { name: spec.nodeName }) : undefined;
  }

  #suffix(): string {
    return Array.from({ length: 5 }, () => nameLetters[Math.floor(this.#options.random() * nameLetters.length)]).join('');
  }
}

function requireSame(resource: Resource, { metadata }: StoredObject, { metadata: given }: ObjectInput): void {
  if (!given?.name) throw badRequest(`the name of the object (${metadata.name} based on URL) was undeterminable: name must be provided`);
  if (given.name !== metadata.name) {
    throw badRequest(`the name of the object (${given.name}) does not match the name on the URL (${metadata.name})`);
  }
  if (given.namespace && given.namespace !== metadata.namespace) {
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  }
  if (given.uid && given.uid !== metadata.uid) {
    const why = `Precondition failed: UID in precondition: ${given.uid}, UID in object meta: ${metadata.uid}`;
    throw conflict(resource, metadata.name, why);
  }
  if (given.resourceVersion && given.resourceVersion !== metadata.resourceVersion) throw conflict(resource, metadata.name);
}

function requirePreconditions({ kind, group }: Resource, { metadata }: StoredObject, wanted: Deletion['preconditions']): void {
  const { name, uid, resourceVersion } = metadata;
  const named = { kind, group, plural: kind } as Resource;
  if (wanted?.uid && wanted.uid !== uid) {
    const why = `the UID in the precondition (${wanted.uid}) does not match the UID in record (${uid}). The object might have been deleted and then recreated`;
    throw conflict(named, name, why);
  }
  if (wanted?.resourceVersion && wanted.resourceVersion !== resourceVersion) {
    const why = `the ResourceVersion in the precondition (${wanted.resourceVersion}) does not match the ResourceVersion in record (${resourceVersion}). The object might have been modified`;
    throw conflict(named, name, why);
  }
}

/** The input in the object's place: what only the API says stays, and the status where the kind has one of its own. */
function replaced(resource: Resource, previous: StoredObject, input: ObjectInput): StoredObject {
  const { kind: _kind, apiVersion: _apiVersion, metadata: given = {}, status: _status, ...fields } = input;
  const { name, namespace, uid, creationTimestamp, resourceVersion, generation, deletionTimestamp, deletionGracePeriodSeconds } =
    previous.metadata;
  const status = resource.hasStatus ? previous.status : input.status;
  return withDefaults(resource, {
    ...fields,
    metadata: {
      ...ownMetadata(given),
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid,
      creationTimestamp,
      resourceVersion,
      ...(generation === undefined ? {} : { generation }),
      ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
      ...(deletionGracePeriodSeconds === undefined ? {} : { deletionGracePeriodSeconds }),
    },
    ...(status === undefined ? {} : { status }),
  });
}

/** What a client may say of an object's metadata; the rest is the API's. */
function ownMetadata(given: Partial<ObjectMetadata>): Partial<ObjectMetadata> {
  const names = ['generateName', 'generation', 'labels', 'annotations', 'finalizers', 'ownerReferences'];
  return Object.fromEntries(Object.entries(given).filter(([name, value]) => names.includes(name) && value !== null));
}

/** What was not kept has no version. */
function withoutVersion({ metadata: { resourceVersion: _version, ...metadata }, ...rest }: StoredObject): StoredObject {
  return { ...rest, metadata } as StoredObject;
}

/** Pods: since 1.33 their generation counts changes of the spec alone. */
function counted({ countsGenerations, plural }: Resource, previous: StoredObject, next: StoredObject): { generation?: number } {
  const { generation } = previous.metadata;
  if (!countsGenerations || generation === undefined) return {};
  const content = ({ metadata: _metadata, status: _status, ...rest }: StoredObject): unknown => (plural === 'pods' ? rest.spec : rest);
  const isSame = JSON.stringify(inOneOrder(content(previous))) === JSON.stringify(inOneOrder(content(next)));
  return { generation: isSame ? generation : generation + 1 };
}
