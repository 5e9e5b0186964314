import test, { type ExecutionContext } from 'ava';
import { waitFor } from '../../support/wait.ts';
import { type Cluster, patchTypes, pod } from './cluster.ts';

const core = (ns: string, plural: string): string => `/api/v1/namespaces/${ns}/${plural}`;

/** How objects are created, change and go. */
export function objectContract(cluster: () => Cluster): void {
  test.serial('an object is created, read, replaced, listed and deleted, with a uid, a time and growing versions', async (t) => {
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

  test.serial('the API sets its own part of the metadata, whatever the client sends', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const times = { creationTimestamp: '2020-01-01T00:00:00Z', deletionTimestamp: '2020-01-01T00:00:00Z' };
    const made = await ok('POST', core(ns, 'configmaps'), { body: { metadata: { name: 'a', uid: 'mine', ...times } } });
    t.not(made.metadata.uid, 'mine');
    t.false(made.metadata.creationTimestamp.startsWith('2020'));
    t.is(made.metadata.deletionTimestamp, undefined);
  });

  test.serial('a merge patch and a strategic one, as kubectl apply sends it, change what they name', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const path = `${core(ns, 'configmaps')}/a`;
    await ok('POST', core(ns, 'configmaps'), { body: { metadata: { name: 'a' }, data: { k: '1' } } });
    const patch = (type: string, body: unknown) => ok('PATCH', path, { body, headers: { 'content-type': type } });
    t.deepEqual((await patch(patchTypes.merge, { data: { p: '1', k: null } })).data, { p: '1' });
    t.deepEqual((await patch(patchTypes.strategic, { data: { q: '2' } })).data, { p: '1', q: '2' });
  });

  test.serial('a Pod begins as Pending; only its status subresource changes its status, and nothing else', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const made = await ok('POST', core(ns, 'pods'), { body: { ...pod('p'), status: { phase: 'Running' } } });
    t.is(made.status.phase, 'Pending');
    t.is(made.spec.terminationGracePeriodSeconds, 30);
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

  test.serial('a Pod on a node stays, marked, while it terminates, and goes by force', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const path = `${core(ns, 'pods')}/p`;
    await ok('POST', core(ns, 'pods'), { body: pod('p', { node: 'somewhere' }) });
    const remove = (seconds: number) => ok('DELETE', `${path}?gracePeriodSeconds=${seconds}`);
    const first = await remove(20);
    t.is(first.kind, 'Pod');
    t.is(first.metadata.deletionGracePeriodSeconds, 20);
    t.is((await remove(40)).metadata.resourceVersion, first.metadata.resourceVersion, 'the grace only shrinks');
    const shorter = await remove(5);
    t.is(Date.parse(shorter.metadata.deletionTimestamp), Date.parse(first.metadata.deletionTimestamp) - 15_000);
    t.is((await ok('GET', path)).metadata.deletionGracePeriodSeconds, 5);
    await remove(0);
    t.is((await call('GET', path)).status, 404);
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

  test.serial('a namespace is Active with its name as a label, and its deletion deletes its objects', async (t) => {
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

  test.serial('an Event is counted by replacing and by patching it, and is selected by the object that it is about', async (t) => {
    const { ok, namespace } = cluster();
    const ns = await namespace(t);
    const about = { kind: 'ConfigMap', namespace: ns, name: 'a' };
    const times = { firstTimestamp: '2024-01-01T00:00:00Z', lastTimestamp: '2024-01-01T00:00:00Z' };
    const source = { component: 'kura' };
    const event = (name: string, type: string, count: number): object => {
      return { metadata: { name }, involvedObject: about, reason: 'R', message: 'm', type, source, ...times, count };
    };
    await ok('POST', core(ns, 'events'), { body: event('rejected', 'Warning', 1) });
    await ok('POST', core(ns, 'events'), { body: event('accepted', 'Normal', 1) });
    const path = `${core(ns, 'events')}/rejected`;
    t.is((await ok('PUT', path, { body: event('rejected', 'Warning', 2) })).count, 2);
    const patched = await ok('PATCH', path, { body: { count: 3 }, headers: { 'content-type': patchTypes.merge } });
    t.deepEqual([patched.count, patched.involvedObject, patched.source], [3, about, source]);
    const chosen = async (selector: string) =>
      (await ok('GET', `${core(ns, 'events')}?fieldSelector=${encodeURIComponent(selector)}`)).items.map(nameOf);
    t.deepEqual(await chosen('involvedObject.kind=ConfigMap,involvedObject.name=a'), ['accepted', 'rejected']);
    t.deepEqual(await chosen('involvedObject.name=a,type=Warning'), ['rejected']);
  });
}

/** A Node in zone-a, which is deleted after the test. */
export async function madeNode(t: ExecutionContext, { ok, call }: Cluster, name: string): Promise<string> {
  const labels = { 'topology.kubernetes.io/zone': 'zone-a' };
  await ok('POST', '/api/v1/nodes', { body: { metadata: { name, labels } } });
  t.teardown(() => call('DELETE', `/api/v1/nodes/${name}`).then(() => undefined));
  return name;
}

export function nameOf({ metadata }: { metadata: { name: string } }): string {
  return metadata.name;
}
