/** What only the fake Kubernetes API promises of its objects: credentials, deviations from the real API, limits, and what survives a kill. */
import { once } from 'node:events';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { ApiException, CoreV1Api, DiscoveryV1Api, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import test from 'ava';
import { Agent, request } from 'undici';
import { maxChanges } from '../../services/fake-kubernetes/history.ts';
import { pod, startFakeKubernetes, startFakeKubernetesOn } from './fake-kubernetes.ts';

const namespace = 'vision';

test.serial('a client without a credential gets nothing but health', async (t) => {
  const { url, directory } = await startFakeKubernetes(t);
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
  t.teardown(() => dispatcher.close());
  const get = async (where: string, headers = {}): Promise<number> => {
    const { statusCode, body } = await request(url + where, { dispatcher, headers });
    await body.dump();
    return statusCode;
  };
  t.is(await get('/readyz'), 200);
  t.is(await get('/api/v1/pods'), 401);
  t.is(await get('/api/v1/pods', { authorization: 'Bearer nonsense' }), 401);
  const admin = await readFile(path.join(directory, 'admin.token'), 'utf8');
  t.is(await get('/api/v1/pods', { authorization: `Bearer ${admin}` }), 200);
  t.is(await get('/api/v1/pods', { authorization: `Basic ${admin}` }), 401);
});

test.serial('only the owner can read keys, tokens, objects and the kubeconfig', async (t) => {
  const { directory } = await startFakeKubernetes(t);
  const files = await readdir(directory);
  t.deepEqual(files.sort(), ['admin.kubeconfig', 'admin.token', 'objects', 'sa.key', 'tls.json']);
  for (const file of files) {
    const { mode } = await stat(path.join(directory, file));
    t.is(mode & 0o777, file === 'objects' ? 0o700 : 0o600, file);
  }
});

test.serial('the certificate is valid for localhost and 127.0.0.1 and no other name', async (t) => {
  const { url, directory } = await startFakeKubernetes(t);
  const { authority: ca } = JSON.parse(await readFile(path.join(directory, 'tls.json'), 'utf8')) as { authority: string };
  const dispatcher = new Agent({ connect: { ca } });
  t.teardown(() => dispatcher.close());
  const { port } = new URL(url);
  for (const host of ['127.0.0.1', 'localhost']) {
    const { statusCode, body } = await request(`https://${host}:${port}/livez`, { dispatcher });
    await body.dump();
    t.is(statusCode, 200, host);
  }
  const other = new Agent({ connect: { ca, servername: 'elsewhere' } });
  t.teardown(() => other.close());
  await t.throwsAsync(request(`https://127.0.0.1:${port}/livez`, { dispatcher: other }), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
});

test.serial('@kubernetes/client-node reads and writes objects and gets an ApiException', async (t) => {
  const { client } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  const made = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' }, data: { x: '1' } } });
  t.true(made.metadata?.creationTimestamp instanceof Date);
  const mergePatch = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
  const patched = await core.patchNamespacedConfigMap({ namespace, name: 'a', body: { data: { y: '2' } } }, mergePatch);
  t.deepEqual(patched.data, { x: '1', y: '2' });
  const { items } = await core.listNamespacedConfigMap({ namespace });
  t.deepEqual(
    items.map(({ metadata }) => metadata?.name),
    ['a'],
  );
  t.is((await core.deleteNamespacedConfigMap({ namespace, name: 'a' })).status, 'Success');
  const error = await t.throwsAsync(core.readNamespacedConfigMap({ namespace, name: 'a' }), { instanceOf: ApiException });
  t.is((error as unknown as ApiException<string>).code, 404);
});

test.serial('an endpoint may lie on the loopback interface, since the shards of a local system do', async (t) => {
  const { client } = await startFakeKubernetes(t);
  const body = { metadata: { name: 's' }, addressType: 'IPv4', endpoints: [{ addresses: ['127.0.0.1'] }] };
  const slice = await client.api(DiscoveryV1Api).createNamespacedEndpointSlice({ namespace, body });
  t.deepEqual(slice.endpoints?.[0]?.addresses, ['127.0.0.1']);
});

test.serial('the deletion of a namespace removes Pods on nodes at once, since no controller would', async (t) => {
  const { client } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod('a', { node: 'somewhere' }) });
  await core.deleteNamespace({ name: namespace });
  t.deepEqual((await core.listPodForAllNamespaces()).items, []);
});

test.serial('a body that never ends, breaks off or is far too large affects no other client', async (t) => {
  const { client, url, directory, service } = await startFakeKubernetes(t);
  const admin = await readFile(path.join(directory, 'admin.token'), 'utf8');
  const { hostname, port } = new URL(url);
  const post = async (length: number): Promise<TLSSocket> => {
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
    t.teardown(() => socket.destroy());
    socket.on('error', () => undefined);
    await once(socket, 'secureConnect');
    const head = [`POST /api/v1/namespaces HTTP/1.1`, 'Host: x', `Authorization: Bearer ${admin}`, `Content-Length: ${length}`];
    socket.write(`${head.join('\r\n')}\r\n\r\n{"metadata":`);
    return socket;
  };
  (await post(1_000)).destroy();
  const silent = await post(1_000);
  const large = await post(100_000_000);
  const answered = once(large, 'data');
  large.write(Buffer.alloc(20_000_000, ' '));
  t.regex(String((await answered)[0]), /^HTTP\/1\.1 413 .*Connection: close/is);
  t.is((await client.api(CoreV1Api).listNamespace()).items.length, 1);
  silent.destroy();
  t.false(service.output().includes('unexpected fault'));
});

test.serial('every acknowledged change survives a kill, and no version is given twice', async (t) => {
  const first = await startFakeKubernetes(t);
  const core = first.client.api(CoreV1Api);
  const kubeconfig = await readFile(first.kubeconfig, 'utf8');
  const made = await Promise.all(
    Array.from({ length: 20 }, (_, at) => core.createNamespacedConfigMap({ namespace, body: { metadata: { name: `m${at}` } } })),
  );
  await core.deleteNamespacedConfigMap({ namespace, name: 'm0' });
  await first.service.stop('SIGKILL');

  const second = await startFakeKubernetesOn(t, first.directory);
  const { items, metadata } = await second.client.api(CoreV1Api).listNamespacedConfigMap({ namespace });
  const uids = (of: typeof items): unknown[] => of.map((item) => item.metadata?.uid).sort();
  t.deepEqual(uids(items), uids(made.slice(1)));
  const later = await second.client.api(CoreV1Api).createNamespacedConfigMap({ namespace, body: { metadata: { name: 'later' } } });
  t.true(Number(later.metadata?.resourceVersion) > Number(metadata?.resourceVersion));
  for (const { metadata: earlier } of made) t.true(Number(earlier?.resourceVersion) < Number(metadata?.resourceVersion));
  // Another port, everything else the same: clients still trust it.
  t.is((await readFile(second.kubeconfig, 'utf8')).replace(second.url, ''), kubeconfig.replace(first.url, ''));
});

test.serial('half a file, as a kill leaves one, was never acknowledged and is ignored', async (t) => {
  const { service, directory } = await startFakeKubernetes(t);
  await service.stop('SIGKILL');
  await writeFile(path.join(directory, 'objects', 'x.json.part'), '{"collection":"configm');
  const { client } = await startFakeKubernetesOn(t, directory);
  await client.api(CoreV1Api).createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } });
  t.is((await client.api(CoreV1Api).listNamespacedConfigMap({ namespace })).items.length, 1);
});

test.serial('a damaged store stops the start with its name and is not taken for an empty cluster', async (t) => {
  const { service, directory } = await startFakeKubernetes(t);
  await service.stop();
  await writeFile(path.join(directory, 'objects', 'x.json'), '{"collection":');
  const error = await t.throwsAsync(startFakeKubernetesOn(t, directory));
  t.regex(String(error?.message), /objects.x\.json is damaged: remove .*objects to start with an empty cluster/);
});

test.serial('a list in pages whose moment is forgotten is Expired', async (t) => {
  const { client } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  for (const name of ['a', 'b', 'c']) await core.createNamespacedConfigMap({ namespace, body: { metadata: { name } } });
  const first = await core.listNamespacedConfigMap({ namespace, limit: 1 });
  for (let at = 0; at <= maxChanges; at++) {
    await core.replaceNamespacedConfigMap({ namespace, name: 'c', body: { metadata: { name: 'c' }, data: { at: String(at) } } });
  }
  const next = core.listNamespacedConfigMap({ namespace, limit: 1, _continue: String(first.metadata?._continue) });
  const error = await t.throwsAsync(next, { instanceOf: ApiException });
  t.like(JSON.parse((error as unknown as ApiException<string>).body), { code: 410, reason: 'Expired' });
});

test.serial('a full store rejects with 507 what makes it larger, and accepts other changes', async (t) => {
  const { client } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  const data = { k: 'x'.repeat(1_000_000) };
  let full: ApiException<string> | undefined;
  for (let at = 0; at < 100 && full === undefined; at++) {
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: `m${at}` }, data } }).catch((error: unknown) => {
      full = error as ApiException<string>;
    });
  }
  t.is(full?.code, 507);
  await core.replaceNamespacedConfigMap({ namespace, name: 'm0', body: { metadata: { name: 'm0' } } });
  t.is((await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'small' } } })).metadata?.name, 'small');
});

test.serial('what a real API would do and this one does not is an error, and changes nothing', async (t) => {
  const { client, url, directory } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' }, data: { k: '1' } } });
  await core.createNamespacedPod({ namespace, body: pod('p') });
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
  t.teardown(() => dispatcher.close());
  const authorization = `Bearer ${await readFile(path.join(directory, 'admin.token'), 'utf8')}`;
  const maps = `/api/v1/namespaces/${namespace}/configmaps`;
  const held = { metadata: { name: 'b', finalizers: ['x/y'] } };
  const rows: [string, number, method: 'GET' | 'POST' | 'PATCH' | 'DELETE', string, object?, string?][] = [
    ['a JSON patch', 415, 'PATCH', `${maps}/a`, [], 'application/json-patch+json'],
    ['server-side apply', 415, 'PATCH', `${maps}/a`, {}, 'application/apply-patch+yaml'],
    ['protobuf', 415, 'POST', maps, {}, 'application/vnd.kubernetes.protobuf'],
    ['a directive', 422, 'PATCH', `${maps}/a`, { data: { $patch: 'replace' } }, 'application/strategic-merge-patch+json'],
    ['a dry run', 405, 'POST', `${maps}?dryRun=All`, { metadata: { name: 'b' } }],
    ['a dry run of a deletion', 405, 'DELETE', `${maps}/a`, { dryRun: ['All'] }],
    ['a finalizer', 405, 'POST', maps, held],
    ['a generated name', 405, 'POST', maps, { metadata: { generateName: 'b-' } }],
    ['the deletion of a collection', 405, 'DELETE', maps],
    ['a binding', 405, 'POST', `/api/v1/namespaces/${namespace}/pods/p/binding`, {}],
    ['initial events', 405, 'GET', `${maps}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan`],
    ['a list at a version', 405, 'GET', `${maps}?resourceVersion=1&resourceVersionMatch=Exact`],
  ];
  for (const [what, code, method, where, content, type = 'application/json'] of rows) {
    const headers = { authorization, 'content-type': type };
    const sent = content === undefined ? null : JSON.stringify(content);
    const { statusCode, body } = await request(url + where, { dispatcher, method, headers, body: sent });
    const status = (await body.json()) as object;
    t.is(statusCode, code, what);
    t.like(status, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code }, what);
  }
  const { items } = await core.listNamespacedConfigMap({ namespace });
  t.deepEqual(
    items.map(({ metadata, data }) => [metadata?.name, data]),
    [['a', { k: '1' }]],
  );
});
