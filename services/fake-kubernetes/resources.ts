/** Pure: the kinds that the fake API stores, and their paths. */

export interface Resource {
  /** Empty for the core group. All groups have version v1. */
  readonly group: string;
  readonly kind: string;
  /** Also the name of the collection. */
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
  /** The kind has a `status` subresource. A plain update does not change its status. */
  readonly hasStatus: boolean;
  /** A DELETE returns the object instead of a Status. */
  readonly returnsDeleted: boolean;
}

export const namespaces = resource('Namespace', { shortNames: ['ns'], namespaced: false, hasStatus: true, returnsDeleted: true });
export const nodes = resource('Node', { shortNames: ['no'], namespaced: false, hasStatus: true });
export const pods = resource('Pod', { shortNames: ['po'], hasStatus: true, returnsDeleted: true });
export const serviceAccounts = resource('ServiceAccount', { shortNames: ['sa'], returnsDeleted: true });

export const resources: readonly Resource[] = [
  namespaces,
  nodes,
  pods,
  serviceAccounts,
  resource('ConfigMap', { shortNames: ['cm'] }),
  resource('Service', { shortNames: ['svc'], hasStatus: true, returnsDeleted: true }),
  resource('Event', { shortNames: ['ev'] }),
  resource('EndpointSlice', { group: 'discovery.k8s.io' }),
];

export interface ResourcePath {
  readonly resource: Resource;
  /** Undefined for a cluster-wide collection. */
  readonly namespace: string | undefined;
  /** Undefined for a collection. */
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

/** Parses `/api/v1/…` and `/apis/<group>/v1/…`; undefined when the path is not served. Throws URIError for an invalid escape. */
export function parseResourcePath(path: string): ResourcePath | undefined {
  const parts = path.split('/').slice(1).map(decodeURIComponent);
  const isCore = parts[0] === 'api' && parts[1] === 'v1';
  if (!isCore && !(parts[0] === 'apis' && parts[2] === 'v1')) return undefined;
  const group = isCore ? '' : parts[1];
  const rest = parts.slice(isCore ? 2 : 3);
  const find = (plural: string | undefined) => resources.find((each) => each.group === group && each.plural === plural);
  if (rest[0] === 'namespaces' && rest.length >= 3) {
    const inside = find(rest[2]);
    if (inside?.namespaced && rest.length <= 5) return { resource: inside, namespace: rest[1], name: rest[3], subresource: rest[4] };
  }
  const found = find(rest[0]);
  if (found === undefined || rest.length > (found.namespaced ? 1 : 3)) return undefined;
  return { resource: found, namespace: undefined, name: rest[1], subresource: rest[2] };
}

/** `v1` or `<group>/v1`, as objects carry it. */
export function apiVersionOf({ group }: { readonly group: string }): string {
  return group === '' ? 'v1' : `${group}/v1`;
}

function resource(kind: string, options: Partial<Resource>): Resource {
  const singular = kind.toLowerCase();
  const common = { group: '', shortNames: [], namespaced: true, hasStatus: false, returnsDeleted: false };
  return { ...common, kind, singular, plural: `${singular}s`, ...options };
}
