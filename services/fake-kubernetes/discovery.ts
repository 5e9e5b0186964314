/** Pure: the discovery documents that kubectl and client libraries read. */
import { openApiDocument } from './openapi.ts';
import { apiVersionOf, type Resource, resources } from './resources.ts';

const verbs = ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'];
const groups = [...new Set(resources.map(({ group }) => group)), 'authentication.k8s.io'].filter((group) => group !== '');

/** The discovery document at a path; undefined for other paths. */
export function discoveryDocument(path: string): object | undefined {
  switch (path) {
    case '/version':
      return { major: '1', minor: '36', gitVersion: 'v1.36.3+kura-fake', platform: 'kura' };
    case '/api':
      return { kind: 'APIVersions', versions: ['v1'] };
    case '/apis':
      return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map(groupOf) };
    case '/api/v1':
      return resourceList('');
    default: {
      const group = groups.find((candidate) => path === `/apis/${candidate}/v1`);
      return group === undefined ? openApiDocument(path) : resourceList(group);
    }
  }
}

function groupOf(group: string): object {
  const version = { groupVersion: `${group}/v1`, version: 'v1' };
  return { name: group, versions: [version], preferredVersion: version };
}

function resourceList(group: string): object {
  const own = resources.filter((resource) => resource.group === group).flatMap(entriesOf);
  const reviews = { name: 'tokenreviews', singularName: 'tokenreview', namespaced: false, kind: 'TokenReview', verbs: ['create'] };
  const list = group === 'authentication.k8s.io' ? [reviews] : own;
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: apiVersionOf({ group }), resources: list };
}

function entriesOf({ plural, singular, shortNames, namespaced, kind, hasStatus }: Resource): object[] {
  const token = { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest', verbs: ['create'] };
  return [
    { name: plural, singularName: singular, shortNames, namespaced, kind, verbs },
    ...(hasStatus ? [{ name: `${plural}/status`, singularName: '', namespaced, kind, verbs: ['get', 'patch', 'update'] }] : []),
    ...(plural === 'serviceaccounts' ? [{ name: `${plural}/token`, singularName: '', namespaced, ...token }] : []),
  ];
}
