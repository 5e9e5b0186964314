/** Pure: what the API says of itself, as `kubectl` and client libraries ask for it. */
import { apiVersionOf, type Resource, resources } from './resources.ts';

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const groups = [...new Set(resources.map(({ group }) => group)), 'authentication.k8s.io'].filter((group) => group !== '');

/** The answer to a path of discovery; undefined for other paths. */
export function discoveryPage(path: string): object | undefined {
  switch (path) {
    case '/version':
      return { major: '1', minor: '36', gitVersion: 'v1.36.3+kura-local', platform: 'kura' };
    case '/api':
      return { kind: 'APIVersions', versions: ['v1'] };
    case '/apis':
      return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map(groupOf) };
    case '/api/v1':
      return resourceList('');
    default: {
      const group = groups.find((candidate) => path === `/apis/${candidate}` || path === `/apis/${candidate}/v1`);
      if (group === undefined) return undefined;
      return path.endsWith('/v1') ? resourceList(group) : { kind: 'APIGroup', apiVersion: 'v1', ...groupOf(group) };
    }
  }
}

function groupOf(group: string): object {
  const version = { groupVersion: `${group}/v1`, version: 'v1' };
  return { name: group, versions: [version], preferredVersion: version };
}

function resourceList(group: string): object {
  const own = resources.filter((resource) => resource.group === group).flatMap(entries);
  const reviews = { name: 'tokenreviews', singularName: 'tokenreview', namespaced: false, kind: 'TokenReview', verbs: ['create'] };
  const list = group === 'authentication.k8s.io' ? [reviews] : own;
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: apiVersionOf({ group }), resources: list };
}

function entries({ plural, singular, shortNames, namespaced, kind, hasStatus }: Resource): object[] {
  const own = {
    name: plural,
    singularName: singular,
    ...(shortNames.length > 0 ? { shortNames } : {}),
    namespaced,
    kind,
    verbs: verbs.filter((verb) => verb !== 'deletecollection' || plural !== 'namespaces'),
  };
  const sub = (name: string, of: { kind: string; group?: string; version?: string }, can: readonly string[]): object => ({
    name: `${plural}/${name}`,
    singularName: '',
    namespaced,
    verbs: can,
    ...of,
  });
  return [
    own,
    ...(hasStatus ? [sub('status', { kind }, ['get', 'patch', 'update'])] : []),
    ...(plural === 'pods' ? [sub('binding', { kind: 'Binding' }, ['create'])] : []),
    ...(plural === 'serviceaccounts'
      ? [sub('token', { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' }, ['create'])]
      : []),
  ];
}
