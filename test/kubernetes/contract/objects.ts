import test, { type ExecutionContext } from 'ava';
import { waitFor } from '../../support/wait.ts';
import { type Cluster, patchTypes, pod } from './cluster.ts';

const slices = (ns: string): string => `/apis/discovery.k8s.io/v1/namespaces/${ns}/endpointslices`;
const core = (ns: string, plural: string): string => `/api/v1/namespaces/${ns}/${plural}`;

/** How objects come to be, change and go. */
export function objectContract(cluster: () => Cluster): void {
  test.serial('an object is made, read, replaced, listed and deleted, with a uid, a time and versions that grow', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const made = await ok('POST', core(ns, 'configmaps'), { body: { metadata: { name: 'a', labels: { x: '1' } }, data: { k: '1' } } });
    t.is(made.kind, 'ConfigMap');
    t.is(made.apiVersion, 'v1');
    t.regex(made.metadata.uid, /^[0-9a-f-]{36}$/);
    t.regex(made.metadata.creationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    t.is(made.metadata.namespace, ns);
    const replaced = await ok('PUT', `${core(ns, 'configmaps')}/a`, { body: { metadata: { name: 'a' }, data: { k: '2' } } });
    t.true(Number(replaced.metadata.resourceVersion) > Number(made.metadata.resourceVersion));
    t.is(replaced.metadata.uid, made.metadata.uid);
    t.is(replaced.metadata.creationTimestamp, made.metadata.creationTimestamp);
    t.is(replaced.metadata.labels, undefined);
    const list = await ok('GET', core(ns, 'configmaps'));
    t.is(list.kind, 'ConfigMapList');
    t.is(list.items.find((item: { metadata: { name: string } }) => item.metadata.name === 'a').data.k, '2');
    const gone = await ok('DELETE', `${core(ns, 'configmaps')}/a`);
    t.is(gone.status, 'Success');
    t.deepEqual(gone.details, { name: 'a', kind: 'configmaps', uid: made.metadata.uid });
    t.is((await call('GET', `${core(ns, 'configmaps')}/a`)).status, 404);
  });

  test.serial('a replacement that changes nothing keeps the version', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const made = await ok('POST', core(ns, 'configmaps'), { body: { metadata: { name: 'a' }, data: { x: '1', y: '2' } } });
    const again = await ok('PUT', `${core(ns, 'configmaps')}/a`, { body: { data: { y: '2', x: '1' }, metadata: { name: 'a' } } });
    t.is(again.metadata.resourceVersion, made.metadata.resourceVersion);
  });

  test.serial('what a client says of the API’s own metadata is not heard; a name is generated', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const metadata = {
      generateName: 'g-',
      uid: 'mine',
      creationTimestamp: '2020-01-01T00:00:00Z',
      deletionTimestamp: '2020-01-01T00:00:00Z',
    };
    const made = await ok('POST', core(ns, 'configmaps'), { body: { metadata } });
    t.regex(made.metadata.name, /^g-[a-z0-9]{5}$/);
    t.is(made.metadata.generateName, 'g-');
    t.not(made.metadata.uid, 'mine');
    t.false(made.metadata.creationTimestamp.startsWith('2020'));
    t.is(made.metadata.deletionTimestamp, undefined);
  });

  test.serial('a dry run answers as if, and keeps nothing', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const made = await ok('POST', `${core(ns, 'configmaps')}?dryRun=All`, { body: { metadata: { name: 'a' } } });
    t.is(made.metadata.resourceVersion, undefined);
    t.is((await call('GET', `${core(ns, 'configmaps')}/a`)).status, 404);
  });

  test.serial('the three patches change what they name', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const path = `${core(ns, 'configmaps')}/a`;
    await ok('POST', core(ns, 'configmaps'), { body: { metadata: { name: 'a' }, data: { k: '1' } } });
    const patch = (type: string, body: unknown) => ok('PATCH', path, { body, headers: { 'content-type': type } });
    t.deepEqual((await patch(patchTypes.merge, { data: { p: '1', k: null } })).data, { p: '1' });
    t.deepEqual((await patch(patchTypes.strategic, { data: { q: '2' } })).data, { p: '1', q: '2' });
    const operations = [
      { op: 'test', path: '/data/p', value: '1' },
      { op: 'add', path: '/data/r', value: '3' },
      { op: 'remove', path: '/data/q' },
      { op: 'replace', path: '/data/p', value: '9' },
      { op: 'copy', from: '/data/p', path: '/data/s' },
      { op: 'move', from: '/data/s', path: '/data/t' },
      { op: 'add', path: '/metadata/annotations', value: { 'kura.test/x': '1', 'kura.test/y': '1' } },
      { op: 'remove', path: '/metadata/annotations/kura.test~1x' },
    ];
    const patched = await patch(patchTypes.json, operations);
    t.deepEqual(patched.data, { p: '9', r: '3', t: '9' });
    t.deepEqual(patched.metadata.annotations, { 'kura.test/y': '1' });
  });

  test.serial('a strategic patch merges conditions by type, and replaces the atomic lists of an EndpointSlice', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const headers = { 'content-type': patchTypes.strategic };
    await ok('POST', core(ns, 'pods'), { body: pod('p') });
    const status = (conditions: object[]) => ok('PATCH', `${core(ns, 'pods')}/p/status`, { body: { status: { conditions } }, headers });
    await status([{ type: 'Ready', status: 'False' }]);
    await status([{ type: 'Other', status: 'True' }]);
    const { conditions } = (await status([{ type: 'Ready', status: 'True' }])).status;
    t.deepEqual(
      conditions.map((condition: { type: string; status: string }) => `${condition.type}=${condition.status}`),
      ['Other=True', 'Ready=True'],
    );
    const endpoints = [{ addresses: ['10.0.0.1'] }, { addresses: ['10.0.0.2'] }];
    await ok('POST', slices(ns), { body: { metadata: { name: 's' }, addressType: 'IPv4', endpoints, ports: [{ name: 'a', port: 1 }] } });
    const patch = { endpoints: [{ addresses: ['10.0.0.3'] }], ports: [{ name: 'b', port: 2 }] };
    const slice = await ok('PATCH', `${slices(ns)}/s`, { body: patch, headers });
    t.is(slice.endpoints.length, 1);
    t.deepEqual(slice.ports, [{ name: 'b', port: 2, protocol: 'TCP' }]);
    t.is(slice.metadata.generation, 2);
  });

  test.serial('a Pod begins as Pending; only its status subresource changes its status, and nothing else', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const made = await ok('POST', core(ns, 'pods'), { body: { ...pod('p'), status: { phase: 'Running' } } });
    t.is(made.status.phase, 'Pending');
    t.is(made.spec.terminationGracePeriodSeconds, 30);
    t.is(made.metadata.generation, 1);
    const headers = { 'content-type': patchTypes.merge };
    const body = { metadata: { labels: { x: '1' } }, status: { phase: 'Running' } };
    const plain = await ok('PATCH', `${core(ns, 'pods')}/p`, { body, headers });
    t.is(plain.status.phase, 'Pending');
    t.is(plain.metadata.labels.x, '1');
    const status = await ok('PATCH', `${core(ns, 'pods')}/p/status`, {
      body: { spec: { nodeName: 'n' }, status: { phase: 'Running' } },
      headers,
    });
    t.is(status.status.phase, 'Running');
    t.is(status.spec.nodeName, undefined);
    t.is((await ok('GET', `${core(ns, 'pods')}/p/status`)).status.phase, 'Running');
  });

  test.serial('a Pod is bound once, and carries its Node’s zone', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const node = await madeNode(t, cluster(), ns);
    await ok('POST', core(ns, 'pods'), { body: pod('p') });
    const binding = { body: { apiVersion: 'v1', kind: 'Binding', metadata: { name: 'p' }, target: { kind: 'Node', name: node } } };
    t.is((await ok('POST', `${core(ns, 'pods')}/p/binding`, binding)).status, 'Success');
    const bound = await ok('GET', `${core(ns, 'pods')}/p`);
    t.is(bound.spec.nodeName, node);
    t.is(bound.metadata.labels['topology.kubernetes.io/zone'], 'zone-a');
    t.is(bound.status.conditions[0].type, 'PodScheduled');
    const again = await call('POST', `${core(ns, 'pods')}/p/binding`, binding);
    t.is(again.status, 409);
    t.is(again.body.message, `Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "${node}"`);
    const born = await ok('POST', core(ns, 'pods'), { body: pod('q', { node }) });
    t.is(born.metadata.labels['topology.kubernetes.io/zone'], 'zone-a');
  });

  test.serial('a Pod on a node stays while it terminates, its grace only shrinks, and it goes by force', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    await ok('POST', core(ns, 'pods'), { body: pod('p', { node: 'somewhere' }) });
    const remove = (seconds: number) => ok('DELETE', `${core(ns, 'pods')}/p?gracePeriodSeconds=${seconds}`);
    const seconds = (of: { metadata: { deletionTimestamp: string } }): number => Date.parse(of.metadata.deletionTimestamp) / 1000;
    const startedAt = Date.now();
    const first = await remove(20);
    t.is(first.kind, 'Pod');
    t.is(first.metadata.deletionGracePeriodSeconds, 20);
    t.is(first.metadata.generation, 2);
    const longer = await remove(40);
    t.is(longer.metadata.resourceVersion, first.metadata.resourceVersion);
    const shorter = await remove(5);
    t.is(seconds(shorter), seconds(first) - 15);
    t.is((await ok('GET', `${core(ns, 'pods')}/p`)).metadata.deletionGracePeriodSeconds, 5);
    const forced = await remove(0);
    t.is(forced.metadata.deletionGracePeriodSeconds, 0);
    // As if it had been forced at first; by the real API a second may have begun since.
    const sinceFirst = seconds(forced) - (seconds(first) - 20);
    t.true(sinceFirst >= 0 && sinceFirst <= (Date.now() - startedAt) / 1000 + 1, `${sinceFirst} s`);
    t.is((await call('GET', `${core(ns, 'pods')}/p`)).status, 404);
  });

  test.serial('a Pod that is on no node, or has ended, goes at once', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    await ok('POST', core(ns, 'pods'), { body: pod('waiting') });
    await ok('POST', core(ns, 'pods'), { body: pod('ended', { node: 'somewhere' }) });
    const headers = { 'content-type': patchTypes.merge };
    await ok('PATCH', `${core(ns, 'pods')}/ended/status`, { body: { status: { phase: 'Succeeded' } }, headers });
    for (const name of ['waiting', 'ended']) {
      await ok('DELETE', `${core(ns, 'pods')}/${name}`);
      t.is((await call('GET', `${core(ns, 'pods')}/${name}`)).status, 404, name);
    }
  });

  test.serial('an object with a finalizer stays, marked, until the finalizer is taken away', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const path = `${core(ns, 'configmaps')}/a`;
    await ok('POST', core(ns, 'configmaps'), { body: { metadata: { name: 'a', finalizers: ['kura.test/hold'] } } });
    t.is((await ok('DELETE', path)).metadata.deletionGracePeriodSeconds, 0);
    t.truthy((await ok('GET', path)).metadata.deletionTimestamp);
    await ok('PATCH', path, { body: { metadata: { finalizers: null } }, headers: { 'content-type': patchTypes.merge } });
    t.is((await call('GET', path)).status, 404);
  });

  test.serial('a whole collection can be deleted, by label too', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    for (const [name, x] of Object.entries({ a: '1', b: '1', c: '2' })) {
      await ok('POST', core(ns, 'events'), { body: { metadata: { name, labels: { x } }, involvedObject: { namespace: ns }, reason: 'R' } });
    }
    t.is((await ok('DELETE', `${core(ns, 'events')}?labelSelector=x%3D1`)).kind, 'EventList');
    const left = await ok('GET', core(ns, 'events'));
    t.deepEqual(left.items.map(nameOf), ['c']);
  });

  test.serial('a namespace is Active with its name as a label, and takes what is in it along', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const made = await ok('GET', `/api/v1/namespaces/${ns}`);
    t.is(made.status.phase, 'Active');
    t.is(made.metadata.labels['kubernetes.io/metadata.name'], ns);
    await ok('POST', core(ns, 'configmaps'), { body: { metadata: { name: 'a' } } });
    t.is((await ok('DELETE', `/api/v1/namespaces/${ns}`)).status.phase, 'Terminating');
    await waitFor('the namespace is gone', async () => (await call('GET', `/api/v1/namespaces/${ns}`)).status === 404, {
      withinMs: 30_000,
    });
    t.is((await call('GET', `${core(ns, 'configmaps')}/a`)).status, 404);
  });

  test.serial('a namespace that is held by a finalizer is Terminating and takes nothing in', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const path = `/api/v1/namespaces/${ns}`;
    const headers = { 'content-type': patchTypes.merge };
    await ok('PATCH', path, { body: { metadata: { finalizers: ['kura.test/hold'] } }, headers });
    await ok('DELETE', path);
    const held = await ok('GET', path);
    t.is(held.status.phase, 'Terminating');
    t.truthy(held.metadata.deletionTimestamp);
    const { status, body } = await call('POST', core(ns, 'configmaps'), { body: { metadata: { name: 'late' } } });
    t.is(status, 403);
    t.is(body.message, `configmaps "late" is forbidden: unable to create new content in namespace ${ns} because it is being terminated`);
    t.deepEqual(body.details, {
      name: 'late',
      kind: 'configmaps',
      causes: [{ reason: 'NamespaceTerminating', message: `namespace ${ns} is being terminated`, field: 'metadata.namespace' }],
    });
    await ok('PATCH', path, { body: { metadata: { finalizers: null } }, headers });
    await waitFor('the namespace is gone', async () => (await call('GET', path)).status === 404, { withinMs: 30_000 });
  });

  test.serial('one Event has two forms, and either group reads and patches it', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const grouped = `/apis/events.k8s.io/v1/namespaces/${ns}/events`;
    const about = { kind: 'ConfigMap', namespace: ns, name: 'a' };
    const source = { component: 'kura' };
    const times = { firstTimestamp: '2024-01-01T00:00:00Z', lastTimestamp: '2024-01-01T00:00:00Z', count: 1 };
    const old = { metadata: { name: 'old' }, involvedObject: about, reason: 'R', message: 'm', type: 'Warning', source, ...times };
    await ok('POST', core(ns, 'events'), { body: old });
    const seen = await ok('GET', `${grouped}/old`);
    t.deepEqual(seen.regarding, about);
    t.is(seen.note, 'm');
    t.deepEqual(seen.deprecatedSource, source);
    const reporter = { reportingController: 'kura/authz', reportingInstance: 'i', action: 'Reject' };
    const eventTime = '2024-01-01T00:00:00.000000Z';
    await ok('POST', grouped, {
      body: { metadata: { name: 'new' }, regarding: about, reason: 'R', note: 'n', type: 'Normal', eventTime, ...reporter },
    });
    const plain = await ok('GET', `${core(ns, 'events')}/new`);
    t.deepEqual(plain.involvedObject, about);
    t.is(plain.message, 'n');
    t.is(plain.reportingComponent, 'kura/authz');
    t.is(plain.eventTime, eventTime);
    const counted = await ok('PATCH', `${core(ns, 'events')}/old`, {
      body: { count: 2 },
      headers: { 'content-type': patchTypes.strategic },
    });
    t.is(counted.count, 2);
    const selector = encodeURIComponent('involvedObject.name=a,type=Warning');
    t.deepEqual((await ok('GET', `${core(ns, 'events')}?fieldSelector=${selector}`)).items.map(nameOf), ['old']);
  });
}

/** A Node in zone-a of the test's own. */
export async function madeNode(t: ExecutionContext, { ok, call }: Cluster, name: string): Promise<string> {
  const labels = { 'topology.kubernetes.io/zone': 'zone-a' };
  await ok('POST', '/api/v1/nodes', { body: { metadata: { name, labels } } });
  t.teardown(() => call('DELETE', `/api/v1/nodes/${name}`).then(() => undefined));
  return name;
}

export function nameOf({ metadata }: { metadata: { name: string } }): string {
  return metadata.name;
}
