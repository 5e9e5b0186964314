/**
 * Pure: the part of OpenAPI v3 that `kubectl apply` needs: a PATCH of each kind accepts `fieldValidation`. There are no schemas, so the API
 * does not check field names. https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3
 */
import { apiVersionOf, type Resource, resources } from './resources.ts';

const root = '/openapi/v3';

/** The OpenAPI v3 document at a path; undefined for other paths. */
export function openApiDocument(path: string): object | undefined {
  const places = [...new Set(resources.map(placeOf))];
  if (path === root) return { paths: Object.fromEntries(places.map((place) => [place, { serverRelativeURL: `${root}/${place}` }])) };
  const own = resources.filter((resource) => path === `${root}/${placeOf(resource)}`);
  if (own.length === 0) return undefined;
  const info = { title: 'kura fake Kubernetes API', version: 'v1.36.3' };
  return { openapi: '3.0.0', info, paths: Object.fromEntries(own.map((resource) => [pathOf(resource), { patch: patchOf(resource) }])) };
}

/** `api/v1` or `apis/<group>/v1`. */
function placeOf(resource: Resource): string {
  return `${resource.group === '' ? 'api' : 'apis'}/${apiVersionOf(resource)}`;
}

function pathOf(resource: Resource): string {
  return `/${placeOf(resource)}/${resource.namespaced ? 'namespaces/{namespace}/' : ''}${resource.plural}/{name}`;
}

function patchOf({ group, kind }: Resource): object {
  return {
    'x-kubernetes-group-version-kind': { group, version: 'v1', kind },
    parameters: [{ name: 'fieldValidation', in: 'query', schema: { type: 'string' } }],
    responses: { 200: { description: 'OK' } },
  };
}
