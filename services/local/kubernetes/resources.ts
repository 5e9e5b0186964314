/** Pure: the kinds that the stand-in keeps, and how their paths are read. */

export interface Resource {
  /** Empty for the core group. */
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
  readonly singular: string;
  readonly namespaced: boolean;
}

const core = { group: '', namespaced: true } as const;

export const resources: readonly Resource[] = [
  { ...core, plural: 'namespaces', kind: 'Namespace', singular: 'namespace', namespaced: false },
  { ...core, plural: 'nodes', kind: 'Node', singular: 'node', namespaced: false },
  { ...core, plural: 'serviceaccounts', kind: 'ServiceAccount', singular: 'serviceaccount' },
  { ...core, plural: 'pods', kind: 'Pod', singular: 'pod' },
  { ...core, plural: 'configmaps', kind: 'ConfigMap', singular: 'configmap' },
  { ...core, plural: 'services', kind: 'Service', singular: 'service' },
  { ...core, plural: 'events', kind: 'Event', singular: 'event' },
  { group: 'discovery.k8s.io', plural: 'endpointslices', kind: 'EndpointSlice', singular: 'endpointslice', namespaced: true },
];

export interface ResourcePath {
  readonly resource: Resource;
  /** Undefined for a cluster-wide collection. */
  readonly namespace: string | undefined;
  /** Undefined for a collection. */
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

/** Reads `/api/v1/…` and `/apis/<group>/v1/…`; undefined where the stand-in keeps nothing under the path. */
export function parseResourcePath(path: string): ResourcePath | undefined {
  const parts = path.split('/').slice(1).map(decodeURIComponent);
  const group = parts[0] === 'api' && parts[1] === 'v1' ? '' : parts[0] === 'apis' && parts[2] === 'v1' ? parts[1] : undefined;
  if (group === undefined) return undefined;
  const rest = parts.slice(group === '' ? 2 : 3);
  const find = (plural: string | undefined): Resource | undefined =>
    resources.find((resource) => resource.group === group && resource.plural === plural);
  if (rest[0] === 'namespaces' && rest.length >= 3) {
    const resource = find(rest[2]);
    if (resource?.namespaced && rest.length <= 5) return { resource, namespace: rest[1], name: rest[3], subresource: rest[4] };
  }
  const resource = find(rest[0]);
  if (resource === undefined || rest.length > 3 || (resource.namespaced && rest.length > 1)) return undefined;
  return { resource, namespace: undefined, name: rest[1], subresource: rest[2] };
}

/** `v1` or `<group>/v1`, as objects carry it. */
export function apiVersionOf({ group }: Resource): string {
  return group === '' ? 'v1' : `${group}/v1`;
}

/** What discovery (`/api/v1`, `/apis/<group>/v1`) says of a group. */
export function apiResourceList(group: string): object {
  const verbs = ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'];
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? 'v1' : `${group}/v1`,
    resources: resources
      .filter((resource) => resource.group === group)
      .map(({ plural, singular, namespaced, kind }) => ({ name: plural, singularName: singular, namespaced, kind, verbs })),
  };
}
