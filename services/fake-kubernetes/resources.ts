/** Pure: the kinds that the stand-in keeps, and how their paths are read. */

export interface Resource {
  /** Empty for the core group; every group is served in version v1. */
  readonly group: string;
  /** Also the name of the collection: Events of both groups lie in one, as in the real API. */
  readonly plural: string;
  readonly kind: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
  /** Has a `status` of its own, which a plain update leaves alone. */
  readonly hasStatus: boolean;
  /** A DELETE answers with the object instead of a Status. */
  readonly answersDeleted: boolean;
  /** `metadata.generation` counts the changes of what lies outside metadata and status. */
  readonly countsGenerations: boolean;
}

const core = {
  group: '',
  namespaced: true,
  shortNames: [],
  hasStatus: false,
  answersDeleted: false,
  countsGenerations: false,
} as const;

export const namespaces: Resource = {
  ...core,
  plural: 'namespaces',
  kind: 'Namespace',
  singular: 'namespace',
  shortNames: ['ns'],
  namespaced: false,
  hasStatus: true,
  answersDeleted: true,
};
export const nodes: Resource = {
  ...core,
  plural: 'nodes',
  kind: 'Node',
  singular: 'node',
  shortNames: ['no'],
  namespaced: false,
  hasStatus: true,
};
export const pods: Resource = {
  ...core,
  plural: 'pods',
  kind: 'Pod',
  singular: 'pod',
  shortNames: ['po'],
  hasStatus: true,
  answersDeleted: true,
  countsGenerations: true,
};
export const serviceAccounts: Resource = {
  ...core,
  plural: 'serviceaccounts',
  kind: 'ServiceAccount',
  singular: 'serviceaccount',
  shortNames: ['sa'],
  answersDeleted: true,
};

export const resources: readonly Resource[] = [
  namespaces,
  nodes,
  pods,
  serviceAccounts,
  { ...core, plural: 'configmaps', kind: 'ConfigMap', singular: 'configmap', shortNames: ['cm'] },
  {
    ...core,
    plural: 'services',
    kind: 'Service',
    singular: 'service',
    shortNames: ['svc'],
    hasStatus: true,
    answersDeleted: true,
  },
  { ...core, plural: 'events', kind: 'Event', singular: 'event', shortNames: ['ev'] },
  { ...core, group: 'events.k8s.io', plural: 'events', kind: 'Event', singular: 'event', shortNames: ['ev'] },
  {
    ...core,
    group: 'discovery.k8s.io',
    plural: 'endpointslices',
    kind: 'EndpointSlice',
    singular: 'endpointslice',
    countsGenerations: true,
  },
];

export interface ResourcePath {
  readonly resource: Resource;
  /** Undefined for a cluster-wide collection. */
  readonly namespace: string | undefined;
  /** Undefined for a collection. */
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

/** Reads `/api/v1/…` and `/apis/<group>/v1/…`; undefined where the stand-in keeps nothing under the path. Throws URIError for a bad escape. */
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
export function apiVersionOf({ group }: { readonly group: string }): string {
  return group === '' ? 'v1' : `${group}/v1`;
}
