/** Pure: the representation that a client requests: whole objects, or only their metadata. */
import type { StoredObject } from './object.ts';
import { apiVersionOf, type Resource } from './resources.ts';

interface Representation {
  readonly object: (object: StoredObject) => object;
  readonly list: (metadata: object, objects: readonly StoredObject[]) => object;
}

/** Reads an Accept header. A client that requests a table also accepts whole objects. */
export function representationFor(resource: Resource, accept = '*/*'): Representation {
  const [first = ''] = accept.split(',');
  return /;\s*as=PartialObjectMetadata(List)?(;|$)/.test(first) ? metadataOnly : whole(resource);
}

/** An object with all its fields, `kind` and `apiVersion` included. */
export function whole(resource: Resource): Representation {
  const { kind } = resource;
  const apiVersion = apiVersionOf(resource);
  return {
    object: (object) => ({ kind, apiVersion, ...object }),
    list: (metadata, items) => ({ kind: `${kind}List`, apiVersion, metadata, items }),
  };
}

const metadataOnly: Representation = {
  object: ({ metadata }) => ({ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata }),
  list: (metadata, objects) => ({
    kind: 'PartialObjectMetadataList',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    // The real API returns null here, but [] for an empty list of whole objects.
    items: objects.length === 0 ? null : objects.map(metadataOnly.object),
  }),
};
