/** Pure: how a client wants to be shown objects: whole, or their metadata alone. */
import { asShown } from './event-versions.ts';
import type { StoredObject } from './object.ts';
import { apiVersionOf, type Resource } from './resources.ts';
import { ApiError } from './status.ts';

interface Representation {
  readonly object: (object: StoredObject) => object;
  readonly list: (metadata: object, objects: readonly StoredObject[]) => object;
}

/** Reads an Accept header. Throws ApiError (406) when it names nothing that is offered; tables are not, and clients that ask for one name JSON too. */
export function representationFor(resource: Resource, accept = '*/*'): Representation {
  for (const range of accept.split(',')) {
    const [type, ...parameters] = range.split(';').map((part) => part.trim());
    if (type !== 'application/json' && type !== '*/*' && type !== 'application/*') continue;
    const as = parameters.find((parameter) => parameter.startsWith('as='))?.slice('as='.length);
    if (as === undefined) return whole(resource);
    const isMeta = parameters.includes('g=meta.k8s.io') && parameters.includes('v=v1');
    if (isMeta && (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList')) return metadataOnly;
  }
  const message = '406: Not Acceptable\n\nAvailable representations: application/json';
  throw new ApiError({ code: 406, reason: 'NotAcceptable', message, details: {} });
}

/** An object with all its fields, `kind` and `apiVersion` included. */
export function whole(resource: Resource): Representation {
  const { kind } = resource;
  const apiVersion = apiVersionOf(resource);
  return {
    object: (object) => ({ kind, apiVersion, ...asShown(resource, object) }),
    list: (metadata, objects) => ({
      kind: `${kind}List`,
      apiVersion,
      metadata,
      items: objects.map((object) => asShown(resource, object)),
    }),
  };
}

const metadataOnly: Representation = {
  object: ({ metadata }) => ({ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata }),
  list: (metadata, objects) => ({
    kind: 'PartialObjectMetadataList',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    // As the real API has it, which shows an empty list of any other form as [].
    items: objects.length === 0 ? null : objects.map(metadataOnly.object),
  }),
};
