import test from 'ava';
import { type Cluster, patchTypes, pod } from './cluster.ts';
import { nameOf } from './objects.ts';

const partial = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
const partialList = partial.replace('Metadata;', 'MetadataList;');

/** Discovery, and the content of lists. */
export function readContract(cluster: () => Cluster): void {
  test.serial('health needs no credential, and objects need one', async (t) => {
    const { call, namespace } = cluster();
    const ns = await namespace(t);
    for (const path of ['/readyz', '/livez']) t.like(await call('GET', path, { token: null }), { status: 200, body: 'ok' });
    t.is((await call('GET', '/version', { token: null })).body.major, '1');
    const path = `/api/v1/namespaces/${ns}/pods`;
    t.true([401, 403].includes((await call('GET', path, { token: null })).status));
    const { status, body } = await call('GET', path, { token: 'nonsense' });
    t.is(status, 401);
    t.deepEqual(body, {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: 'Unauthorized',
      reason: 'Unauthorized',
      code: 401,
    });
  });

  test.serial('discovery names the kinds and their subresources', async (t) => {
    const { ok } = cluster();
    t.deepEqual((await ok('GET', '/api')).versions, ['v1']);
    const groups: string[] = (await ok('GET', '/apis')).groups.map(({ name }: { name: string }) => name);
    for (const group of ['discovery.k8s.io', 'authentication.k8s.io']) t.true(groups.includes(group), group);
    const { resources } = await ok('GET', '/apis/discovery.k8s.io/v1');
    t.like(resources[0], { name: 'endpointslices', singularName: 'endpointslice', namespaced: true, kind: 'EndpointSlice' });
    const core: { name: string; kind: string; shortNames?: string[] }[] = (await ok('GET', '/api/v1')).resources;
    const find = (wanted: string) => core.find(({ name }) => name === wanted);
    t.like(find('pods'), { kind: 'Pod', shortNames: ['po'] });
    t.like(find('configmaps'), { kind: 'ConfigMap', shortNames: ['cm'] });
    t.like(find('serviceaccounts/token'), { kind: 'TokenRequest' });
    t.truthy(find('pods/status'));
    // The real API serves this JSON as text/plain.
    const openApi = await ok('GET', '/openapi/v3');
    t.truthy((typeof openApi === 'string' ? JSON.parse(openApi) : openApi).paths['api/v1'].serverRelativeURL);
  });

  test.serial('selectors choose by label and by field', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const path = `/api/v1/namespaces/${ns}/pods`;
    await ok('POST', path, { body: pod('a', { node: 'n1', labels: { app: 'x', tier: 'front' } }) });
    await ok('POST', path, { body: pod('b', { node: 'n2', labels: { app: 'x' }, serviceAccountName: 'trainer' }) });
    await ok('POST', path, { body: pod('c', { labels: { app: 'y' } }) });
    await ok('PATCH', `${path}/c/status`, { body: { status: { phase: 'Failed' } }, headers: { 'content-type': patchTypes.merge } });
    const chosen = async (query: string): Promise<string[]> => (await ok('GET', `${path}?${query}`)).items.map(nameOf);
    for (const [selector, names] of Object.entries({
      'app=x': ['a', 'b'],
      'app==x,tier': ['a'],
      '!tier': ['b', 'c'],
      'app!=x': ['c'],
      'tier!=front': ['b', 'c'],
      'app in (x, y),tier notin (front)': ['b', 'c'],
      'tier in (front,back)': ['a'],
      'tier=': [],
    })) {
      t.deepEqual(await chosen(`labelSelector=${encodeURIComponent(selector)}`), names, selector);
    }
    for (const [selector, names] of Object.entries({
      'metadata.name=b': ['b'],
      'metadata.name!=b': ['a', 'c'],
      [`metadata.namespace=${ns}`]: ['a', 'b', 'c'],
      'spec.nodeName=n1': ['a'],
      'spec.nodeName=': ['c'],
      'spec.serviceAccountName=trainer': ['b'],
      'status.phase!=Succeeded,status.phase!=Failed': ['a', 'b'],
      'status.phase==Failed': ['c'],
    })) {
      t.deepEqual(await chosen(`fieldSelector=${encodeURIComponent(selector)}`), names, selector);
    }
  });

  test.serial('a client gets metadata alone where it accepts that first', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const path = `/api/v1/namespaces/${ns}/pods`;
    t.deepEqual((await ok('GET', path)).items, []);
    t.is((await ok('GET', path, { headers: { accept: partialList } })).items, null);
    await ok('POST', path, { body: pod('a') });
    const list = await ok('GET', path, { headers: { accept: partialList } });
    t.is(`${list.kind} ${list.apiVersion}`, 'PartialObjectMetadataList meta.k8s.io/v1');
    t.deepEqual(Object.keys(list.items[0]).sort(), ['apiVersion', 'kind', 'metadata']);
    t.is(list.items[0].kind, 'PartialObjectMetadata');
    t.is((await ok('GET', `${path}/a`, { headers: { accept: `${partial},application/json` } })).kind, 'PartialObjectMetadata');
    // kubectl accepts whole objects where the API has no tables.
    t.is((await ok('GET', `${path}/a`, { headers: { accept: 'application/vnd.unknown,application/json' } })).kind, 'Pod');
  });

  test.serial('a list in pages is of one moment, in the order of names', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const path = `/api/v1/namespaces/${ns}/events`;
    const make = (name: string) => ok('POST', path, { body: { metadata: { name }, involvedObject: { namespace: ns }, reason: 'R' } });
    for (const name of ['d', 'b', 'c', 'a', 'e']) await make(name);
    const first = await ok('GET', `${path}?limit=2`);
    t.deepEqual(first.items.map(nameOf), ['a', 'b']);
    t.is(first.metadata.remainingItemCount, 3);
    await ok('DELETE', `${path}/c`);
    await make('f');
    await ok('PATCH', `${path}/d`, { body: { reason: 'changed' }, headers: { 'content-type': patchTypes.merge } });
    const second = await ok('GET', `${path}?limit=2&continue=${encodeURIComponent(first.metadata.continue)}`);
    t.deepEqual(second.items.map(nameOf), ['c', 'd']);
    t.is(second.items[1].reason, 'R');
    t.is(second.metadata.resourceVersion, first.metadata.resourceVersion);
    const third = await ok('GET', `${path}?limit=2&continue=${encodeURIComponent(second.metadata.continue)}`);
    t.deepEqual(third.items.map(nameOf), ['e']);
    t.is(third.metadata.continue, undefined);
    t.is((await ok('GET', `${path}?limit=1&labelSelector=!x`)).metadata.remainingItemCount, undefined);
    t.deepEqual((await ok('GET', `${path}?resourceVersion=0`)).items.map(nameOf), ['a', 'b', 'd', 'e', 'f']);
  });
}
