import test from 'ava';
import { type Cluster, pod } from './cluster.ts';
import { refusalsOfBodies, refusalsOfKinds, refusalsOfPatches, refusalsOfPlaces, refusalsOfQueries } from './refusal-rows.ts';

/** Every refusal is a Status object with the same code, reason, message and details. */
export function refusalContract(cluster: () => Cluster): void {
  test.serial('refusals are Status objects that say why', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const stale = await ok('POST', `/api/v1/namespaces/${ns}/configmaps`, { body: { metadata: { name: 'a' }, data: { k: '1' } } });
    await ok('PUT', `/api/v1/namespaces/${ns}/configmaps/a`, { body: { metadata: { name: 'a' }, data: { k: '2' } } });
    await ok('POST', `/api/v1/namespaces/${ns}/pods`, { body: pod('p', { node: 'somewhere' }) });
    const slice = { metadata: { name: 's' }, addressType: 'IPv4', endpoints: [] };
    await ok('POST', `/apis/discovery.k8s.io/v1/namespaces/${ns}/endpointslices`, { body: slice });
    const rows = [
      ...refusalsOfPlaces(ns, stale.metadata),
      ...refusalsOfBodies(ns),
      ...refusalsOfPatches(ns),
      ...refusalsOfQueries(ns),
      ...refusalsOfKinds(ns),
    ];
    for (const { what, request, code, reason, message, details } of rows) {
      const [method, path, body, contentType] = request;
      const answer = await call(method, path, { body, ...(contentType === undefined ? {} : { headers: { 'content-type': contentType } }) });
      t.is(answer.status, code, what);
      const status = answer.body;
      t.is(`${status.kind} ${status.apiVersion} ${status.status} ${status.code}`, `Status v1 Failure ${code}`, what);
      t.is(status.reason, reason, what);
      if (typeof message === 'string') t.is(status.message, message, what);
      else t.regex(status.message, message, what);
      if (details !== undefined) t.deepEqual(status.details, details, what);
    }
  });
}
