/** Pure: the shape of a Kubernetes object in the store and in a request. */

export interface ObjectMetadata {
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly creationTimestamp: string;
  readonly deletionTimestamp?: string;
  readonly deletionGracePeriodSeconds?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
}

/** Fields of an object or of a part of it. Only the client knows their types. */
export type Fields = Readonly<Record<string, unknown>>;

/** An object without `kind` and `apiVersion`, which its resource implies. Immutable, because a watch may still hold it. */
export interface StoredObject {
  readonly metadata: ObjectMetadata;
  readonly spec?: Fields;
  readonly status?: Fields;
  readonly [field: string]: unknown;
}

/** An object from a client, before the API sets its part of the metadata. */
export interface ObjectInput {
  readonly metadata?: Partial<ObjectMetadata> & { readonly generateName?: string };
  readonly spec?: Fields;
  readonly status?: Fields;
  readonly [field: string]: unknown;
}

/** The place of an object in its collection. The namespace is undefined for a kind without namespaces. */
export interface ObjectPlace {
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** Keys sort in the order of the real API's lists. */
export function keyOf({ namespace, name }: ObjectPlace): string {
  return `${namespace ?? ''}/${name}`;
}

/** Times in metadata are whole seconds. */
export function timestamp(time: Date): string {
  return time.toISOString().replace(/\.\d+Z$/, 'Z');
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
