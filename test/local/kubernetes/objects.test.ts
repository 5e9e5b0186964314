import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ApiException, CoreV1Api, DiscoveryV1Api } from '@kubernetes/client-node';
import test, { type ExecutionContext } from 'ava';
import { Agent, request } from 'undici';
import { waitFor } from '../../support/wait.ts';
import { pod, startStandIn, startStandInOn } from './stand-in.ts';

const namespace = 'vision';

/** The Status object that a call was refused with. */
async function refusal(t: ExecutionContext, call: Promise<unknown>): Promise<{ code: number; reason: string; message: string }> {
  const error = await t.throwsAsync(call, { instanceOf: ApiException });
  return JSON.parse((error as unknown as ApiException<string>).body) as { code: number; reason: string; message: string };
}

test.serial('an object is created, read, replaced, patched, listed and deleted with versions that grow', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  const created = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' }, data: { x: '1' } } });
  t.regex(String(created.metadata?.uid), /^[0-9a-f-]{36}$/);
  t.true(created.metadata?.creationTimestamp instanceof Date);
  const replaced = await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { metadata: { name: 'a' }, data: { x: '2' } } });
  t.true(Number(replaced.metadata?.resourceVersion) > Number(created.metadata?.resourceVersion));
  t.is(replaced.metadata?.uid, created.metadata?.uid);
  t.deepEqual(
    (await core.listNamespacedConfigMap({ namespace })).items.map(({ data }) => data),
    [{ x: '2' }],
  );
  await core.deleteNamespacedConfigMap({ namespace, name: 'a' });
  t.is((await refusal(t, core.readNamespacedConfigMap({ namespace, name: 'a' }))).message, 'configmaps "a" not found');
});

test.serial('a replacement that changes nothing keeps the version', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  const body = { metadata: { name: 'a' }, data: { x: '1', y: '2' } };
  const created = await core.createNamespacedConfigMap({ namespace, body });
  const again = await core.replaceNamespacedConfigMap({
    namespace,
    name: 'a',
    body: { data: { y: '2', x: '1' }, metadata: { name: 'a' } },
  });
  t.is(again.metadata?.resourceVersion, created.metadata?.resourceVersion);
});

test.serial('refusals are Status objects with the real API’s codes and reasons', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  const body = { metadata: { name: 'a' } };
  const { metadata } = await core.createNamespacedConfigMap({ namespace, body });
  const stale = {
    metadata: { name: 'a', ...(metadata?.resourceVersion === undefined ? {} : { resourceVersion: metadata.resourceVersion }) },
    data: { z: '9' },
  };
  await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { ...body, data: { y: '1' } } });
  const cases = [
    [core.createNamespacedConfigMap({ namespace, body }), 409, 'AlreadyExists'],
    [core.replaceNamespacedConfigMap({ namespace, name: 'a', body: stale }), 409, 'Conflict'],
    [core.readNamespacedConfigMap({ namespace, name: 'b' }), 404, 'NotFound'],
    [core.createNamespacedConfigMap({ namespace: 'nowhere', body }), 404, 'NotFound'],
    [core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'Not_A_Name' } } }), 422, 'Invalid'],
    [core.createNamespacedConfigMap({ namespace, body: {} }), 422, 'Invalid'],
    [core.listNamespacedConfigMap({ namespace, fieldSelector: 'spec.nonsense=1' }), 400, 'BadRequest'],
    [core.listNamespacedConfigMap({ namespace, labelSelector: 'a in b' }), 400, 'BadRequest'],
    [core.listNamespacedSecret({ namespace }), 404, 'NotFound'],
    [
      core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'big' }, data: { x: 'x'.repeat(3 * 2 ** 20) } } }),
      413,
      'RequestEntityTooLarge',
    ],
  ] as const;
  for (const [call, code, reason] of cases) {
    const status = await refusal(t, call);
    t.is(status.code, code, reason);
    t.is(status.reason, reason);
  }
});

test.serial('nobody without a credential gets anything but health', async (t) => {
  const { url, directory } = await startStandIn(t);
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
  t.teardown(() => dispatcher.close());
  const get = (where: string, headers = {}) =>
    request(url + where, { dispatcher, headers }).then(async ({ statusCode, body }) => (await body.dump(), statusCode));
  t.is(await get('/readyz'), 200);
  t.is(await get('/api/v1/pods'), 401);
  t.is(await get('/api/v1/pods', { authorization: 'Bearer nonsense' }), 401);
  const admin = await readFile(path.join(directory, 'admin.token'), 'utf8');
  t.is(await get('/api/v1/pods', { authorization: `Bearer ${admin}` }), 200);
});

test.serial('selectors choose by label and by field', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod('a', { node: 'n1', labels: { app: 'x', tier: 'front' } }) });
  await core.createNamespacedPod({ namespace, body: pod('b', { node: 'n2', labels: { app: 'x' } }) });
  await core.createNamespacedPod({ namespace, body: pod('c', { labels: { app: 'y' } }) });
  const names = async (query: { labelSelector?: string; fieldSelector?: string }) =>
    (await core.listNamespacedPod({ namespace, ...query })).items.map(({ metadata }) => metadata?.name);
  t.deepEqual(await names({ labelSelector: 'app=x' }), ['a', 'b']);
  t.deepEqual(await names({ labelSelector: 'app=x,tier' }), ['a']);
  t.deepEqual(await names({ labelSelector: '!tier' }), ['b', 'c']);
  t.deepEqual(await names({ labelSelector: 'app!=x' }), ['c']);
  t.deepEqual(await names({ labelSelector: 'app in (x, y),tier notin (front)' }), ['b', 'c']);
  t.deepEqual(await names({ fieldSelector: 'metadata.name=b' }), ['b']);
  t.deepEqual(await names({ fieldSelector: 'spec.nodeName=n1' }), ['a']);
  t.deepEqual(await names({ fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed' }), ['a', 'b', 'c']);
});

test.serial('a Pod on a node stays while it terminates and goes when it is deleted by force; another goes at once', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod('bound', { node: 'n1' }) });
  await core.createNamespacedPod({ namespace, body: pod('pending') });
  await core.deleteNamespacedPod({ namespace, name: 'pending' });
  await core.deleteNamespacedPod({ namespace, name: 'bound', gracePeriodSeconds: 5 });
  const { items } = await core.listNamespacedPod({ namespace });
  t.deepEqual(
    items.map(({ metadata }) => metadata?.name),
    ['bound'],
  );
  t.is(items[0]?.metadata?.deletionGracePeriodSeconds, 5);
  await core.deleteNamespacedPod({ namespace, name: 'bound', gracePeriodSeconds: 0 });
  t.deepEqual((await core.listNamespacedPod({ namespace })).items, []);
});

test.serial('a deleted namespace takes what is in it along', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod('a') });
  await core.deleteNamespace({ name: namespace });
  t.deepEqual((await core.listPodForAllNamespaces()).items, []);
});

test.serial('objects, keys and the certificate survive a kill, and no version is given twice', async (t) => {
  const first = await startStandIn(t);
  const slices = first.client.api(DiscoveryV1Api);
  const { metadata } = await slices.createNamespacedEndpointSlice({
    namespace,
    body: { metadata: { name: 's' }, addressType: 'IPv4', endpoints: [] },
  });
  await waitFor('the object is on disk', async () =>
    (await readFile(path.join(first.directory, 'objects.json'), 'utf8')).includes(String(metadata?.uid)),
  );
  await first.service.stop('SIGKILL');
  const second = await startStandInOn(t, first.directory);
  const read = await second.client.api(DiscoveryV1Api).readNamespacedEndpointSlice({ namespace, name: 's' });
  t.is(read.metadata?.uid, metadata?.uid);
  const later = await second.client.api(CoreV1Api).createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } });
  t.true(Number(later.metadata?.resourceVersion) > Number(metadata?.resourceVersion));
});

test.serial('a damaged store is refused with its name and not taken for an empty cluster', async (t) => {
  const { service, directory } = await startStandIn(t);
  await service.stop();
  await writeFile(path.join(directory, 'objects.json'), '{"version":');
  const error = await t.throwsAsync(startStandInOn(t, directory));
  t.regex(String(error?.message), /objects\.json is damaged: remove it to start with an empty cluster/);
});
