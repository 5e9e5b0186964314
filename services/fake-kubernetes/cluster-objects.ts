/**
 * Pure: creates, changes and deletes objects as the real API does.
 * https://github.com/kubernetes/kubernetes/tree/master/staging/src/k8s.io/apiserver/pkg/registry/rest
 */
import { isDeepStrictEqual } from 'node:util';
import { type Fields, type ObjectInput, type ObjectMetadata, type StoredObject, timestamp } from './object.ts';
import { namespaces, type Resource, resources } from './resources.ts';
import { ApiError, alreadyExists, badRequest, conflict, notServed } from './status.ts';
import type { ObjectStore } from './store.ts';
import { requireForm, requireValid } from './validation.ts';

/** The fields of metadata that clients set. The API sets all others. */
const clientFields = ['labels', 'annotations', 'ownerReferences'];

interface ClusterOptions {
  readonly store: ObjectStore;
  readonly now: () => Date;
  readonly newUid: () => string;
}

export interface Deletion {
  /** Undefined: use the grace period of the Pod. */
  readonly graceSeconds: number | undefined;
  readonly preconditions: { readonly uid?: string; readonly resourceVersion?: string };
}

export class ClusterObjects {
  readonly #store: ObjectStore;
  readonly #options: ClusterOptions;

  constructor(options: ClusterOptions) {
    this.#store = options.store;
    this.#options = options;
  }

  /** Throws ApiError. */
  create(resource: Resource, { namespace, input }: { namespace: string | undefined; input: ObjectInput }): StoredObject {
    requireForm(resource, input);
    this.#requireNamespace(resource, namespace, input);
    const { kind: _kind, apiVersion: _apiVersion, metadata: given = {}, ...fields } = input;
    if (given.resourceVersion) throw new ApiError({ code: 500, message: 'resourceVersion should not be set on objects to be created' });
    if (given.generateName) throw notServed('generateName');
    const { name = '' } = given;
    const object = withDefaults(resource, {
      ...fields,
      ...initialStatus(resource),
      metadata: {
        ...clientMetadata(given),
        name,
        ...(namespace === undefined ? {} : { namespace }),
        uid: this.#options.newUid(),
        resourceVersion: '',
        creationTimestamp: timestamp(this.#options.now()),
      },
    });
    requireValid(resource, object);
    if (this.#store.find(resource, { namespace, name }) !== undefined) throw alreadyExists(resource, name);
    return this.#store.put(resource, object);
  }

  /** Replaces an object, or only its `status`. An input that changes nothing keeps the version. Throws ApiError. */
  update(
    resource: Resource,
    { previous, input, part }: { previous: StoredObject; input: ObjectInput; part: 'status' | 'rest' },
  ): StoredObject {
    requireForm(resource, input);
    requireSamePlace(previous, input);
    requireCurrent(resource, previous, input.metadata ?? {});
    const next = part === 'status' ? { ...previous, status: input.status ?? {} } : replaced(resource, previous, input);
    requireValid(resource, next);
    return isDeepStrictEqual(next, previous) ? previous : this.#store.put(resource, next);
  }

  /** Removes an object, or marks a Pod that runs on a node as deleted. Returns the last state of the object. Throws ApiError. */
  delete(resource: Resource, object: StoredObject, deletion: Deletion): { last: StoredObject; isGone: boolean } {
    requireCurrent(resource, object, deletion.preconditions);
    const seconds = resource.plural === 'pods' ? podGrace(object, deletion.graceSeconds) : 0;
    if (seconds > 0) {
      const marked = markDeleted(object, seconds, this.#options.now());
      return { last: marked === object ? object : this.#store.put(resource, marked), isGone: false };
    }
    if (resource.plural !== 'namespaces') return { last: this.#store.remove(resource, object), isGone: true };
    this.#removeContents(object.metadata.name);
    return { last: this.#store.remove(resource, { ...object, status: { phase: 'Terminating' } }), isGone: true };
  }

  /** The fake API has no controller that would do this later. */
  #removeContents(namespace: string): void {
    for (const resource of resources.filter(({ namespaced }) => namespaced)) {
      for (const object of this.#store.list(resource)) if (object.metadata.namespace === namespace) this.#store.remove(resource, object);
    }
  }

  #requireNamespace(resource: Resource, name: string | undefined, { metadata: given }: ObjectInput): void {
    requireSameNamespace(name, given);
    if (!resource.namespaced) return;
    if (name === undefined) throw badRequest('an empty namespace may not be set during creation');
    this.#store.get(namespaces, { name });
  }
}

function requireSamePlace({ metadata }: StoredObject, { metadata: given }: ObjectInput): void {
  if (!given?.name) throw badRequest(`the name of the object (${metadata.name} based on URL) was undeterminable: name must be provided`);
  if (given.name !== metadata.name) {
    throw badRequest(`the name of the object (${given.name}) does not match the name on the URL (${metadata.name})`);
  }
  requireSameNamespace(metadata.namespace, given);
}

function requireSameNamespace(namespace: string | undefined, given: ObjectInput['metadata']): void {
  if (!given?.namespace || given.namespace === namespace) return;
  throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
}

/** A `uid` or `resourceVersion` that the client sends must be the current one. */
function requireCurrent(resource: Resource, { metadata }: StoredObject, expected: Deletion['preconditions']): void {
  const { name, uid, resourceVersion } = metadata;
  if (expected.uid && expected.uid !== uid) {
    throw conflict(resource, name, `Precondition failed: UID in precondition: ${expected.uid}, UID in object meta: ${uid}`);
  }
  if (expected.resourceVersion && expected.resourceVersion !== resourceVersion) {
    const why = 'the object has been modified; please apply your changes to the latest version and try again';
    throw conflict(resource, name, why);
  }
}

/** Replaces the fields of an object by those of the input. Keeps the API's part of the metadata, and a status that has a subresource. */
function replaced(resource: Resource, previous: StoredObject, input: ObjectInput): StoredObject {
  const { kind: _kind, apiVersion: _apiVersion, metadata: given = {}, status: givenStatus, ...fields } = input;
  const status = resource.hasStatus ? previous.status : givenStatus;
  const apiMetadata = Object.entries(previous.metadata).filter(([name]) => !clientFields.includes(name));
  const metadata = { ...clientMetadata(given), ...Object.fromEntries(apiMetadata) } as ObjectMetadata;
  return withDefaults(resource, { ...fields, ...(status === undefined ? {} : { status }), metadata });
}

function clientMetadata(given: Partial<ObjectMetadata>): Partial<ObjectMetadata> {
  return Object.fromEntries(Object.entries(given).filter(([name, value]) => clientFields.includes(name) && value !== null));
}

/** Sets the fields that the real API fills in and that kura or its policies read. */
function withDefaults({ plural }: Resource, object: StoredObject): StoredObject {
  if (plural === 'pods') return { ...object, spec: { terminationGracePeriodSeconds: 30, ...object.spec } };
  if (plural !== 'namespaces') return object;
  const labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name };
  return { ...object, metadata: { ...object.metadata, labels } };
}

/** A new object starts with this status, whatever the client sends. */
function initialStatus({ plural, hasStatus }: Resource): { status?: Fields } {
  if (plural === 'pods') return { status: { phase: 'Pending' } };
  if (plural === 'namespaces') return { status: { phase: 'Active' } };
  return hasStatus ? { status: {} } : {};
}

/** Only a Pod that runs on a node has time to end. https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination */
function podGrace({ spec, status }: StoredObject, asked: number | undefined): number {
  const isRunning = Boolean(spec?.nodeName) && !['Succeeded', 'Failed'].includes(String(status?.phase));
  return isRunning ? (asked ?? Number(spec?.terminationGracePeriodSeconds)) : 0;
}

/** A second deletion can only shorten the grace period, which starts at the first one. */
function markDeleted(object: StoredObject, seconds: number, now: Date): StoredObject {
  const { deletionTimestamp, deletionGracePeriodSeconds = 0 } = object.metadata;
  if (deletionTimestamp !== undefined && deletionGracePeriodSeconds <= seconds) return object;
  const startMs = deletionTimestamp === undefined ? now.getTime() : Date.parse(deletionTimestamp) - deletionGracePeriodSeconds * 1000;
  const deletion = { deletionTimestamp: timestamp(new Date(startMs + seconds * 1000)), deletionGracePeriodSeconds: seconds };
  return { ...object, metadata: { ...object.metadata, ...deletion } };
}
