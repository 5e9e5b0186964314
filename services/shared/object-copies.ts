/** Pure: copies of a collection's objects. Reports the differences between old and new content. */
import type { KubernetesObject } from '@kubernetes/client-node';

export type ObjectChange<T> =
  | { readonly type: 'added'; readonly object: T }
  | { readonly type: 'modified'; readonly object: T; readonly previous: T }
  | { readonly type: 'deleted'; readonly object: T };

/** An object with a known name and a new uid is reported as a deletion and an addition. Unchanged objects are not reported. */
export class ObjectCopies<T extends KubernetesObject> {
  readonly #byKey = new Map<string, T>();
  readonly #tell: (change: ObjectChange<T>) => void;

  constructor(tell: (change: ObjectChange<T>) => void) {
    this.#tell = tell;
  }

  all(): Iterable<T> {
    return this.#byKey.values();
  }

  get(key: string): T | undefined {
    return this.#byKey.get(key);
  }

  set(object: T): void {
    const key = keyOf(object);
    const previous = this.#byKey.get(key);
    if (previous === undefined) {
      this.#byKey.set(key, object);
      this.#tell({ type: 'added', object });
    } else if (previous.metadata?.uid !== object.metadata?.uid) {
      this.#byKey.delete(key);
      this.#tell({ type: 'deleted', object: previous });
      this.#byKey.set(key, object);
      this.#tell({ type: 'added', object });
    } else if (previous.metadata?.resourceVersion !== object.metadata?.resourceVersion) {
      this.#byKey.set(key, object);
      this.#tell({ type: 'modified', object, previous });
    }
  }

  delete(object: T): void {
    if (this.#byKey.delete(keyOf(object))) this.#tell({ type: 'deleted', object });
  }

  /** Replaces the content by a full list. Reports one difference for each changed object, without an empty state in between. */
  replace(objects: readonly T[]): void {
    const listed = new Set(objects.map(keyOf));
    for (const [key, object] of [...this.#byKey]) if (!listed.has(key)) this.delete(object);
    for (const object of objects) this.set(object);
  }
}

function keyOf({ metadata }: KubernetesObject): string {
  return metadata?.namespace === undefined ? (metadata?.name ?? '') : `${metadata.namespace}/${metadata.name}`;
}
