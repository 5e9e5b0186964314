/** Pure: the shape of a Kubernetes object, as the store keeps it and as a client sends it. */

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

/** Fields of an object or of a part of it, of which only the client knows the form. */
export type Fields = Readonly<Record<string, unknown>>;

/** An object without `kind` and `apiVersion`, which its resource implies. Nothing changes it in place: a watch may still hold it. */
export interface StoredObject {
  readonly metadata: ObjectMetadata;
  readonly spec?: Fields;
  readonly status?: Fields;
  readonly [field: string]: unknown;
}

/** What a client sends: the same, before the API fills in its part of the metadata. */
export interface ObjectInput {
  readonly metadata?: Partial<ObjectMetadata> & { readonly generateName?: string };
  readonly spec?: Fields;
  readonly status?: Fields;
  readonly [field: string]: unknown;
}

/** Where an object lies in its collection; the namespace is undefined for a kind that has none. */
export interface ObjectPlace {
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** Keys sort as the real API sorts a list. */
export function keyOf({ namespace, name }: ObjectPlace): string {
  return `${namespace ?? ''}/${name}`;
}

/** Times in metadata are in whole seconds. */
export function timestamp(time: Date): string {
  return time.toISOString().replace(/\.\d+Z$/, 'Z');
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
