/** What only the stand-in promises of its objects: who may call, what it accepts besides, its limits, and what outlives a kill. */
import { once } from 'node:events';
import { appendFile, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { ApiException, CoreV1Api, DiscoveryV1Api } from '@kubernetes/client-node';
import test from 'ava';
import { Agent, request } from 'undici';
import { changesLimit } from '../../services/fake-kubernetes/history.ts';
import { pod, startStandIn, startStandInOn } from './stand-in.ts';

const namespace = 'vision';

test.serial('nobody without a credential gets anything but health', async (t) => {
  const { url, directory } = await startStandIn(t);
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

test.serial('keys, tokens, objects and the kubeconfig are readable by their owner alone', async (t) => {
  const { directory } = await startStandIn(t);
  const files = await readdir(directory);
  t.deepEqual(files.sort(), ['admin.kubeconfig', 'admin.token', 'objects.jsonl', 'sa.key', 'tls.json']);
  for (const file of files) t.is((await stat(path.join(directory, file))).mode & 0o777, 0o600, file);
});

test.serial('its certificate is good for localhost and 127.0.0.1 and no other name', async (t) => {
  const { url, directory } = await startStandIn(t);
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

test.serial('@kubernetes/client-node reads, writes and is refused as by the real API', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  const made = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' }, data: { x: '1' } } });
  t.true(made.metadata?.creationTimestamp instanceof Date);
  const patched = await core.patchNamespacedConfigMap({ namespace, name: 'a', body: [{ op: 'add', path: '/data/y', value: '2' }] });
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
  const { client } = await startStandIn(t);
  const body = { metadata: { name: 's' }, addressType: 'IPv4', endpoints: [{ addresses: ['127.0.0.1'] }] };
  const slice = await client.api(DiscoveryV1Api).createNamespacedEndpointSlice({ namespace, body });
  t.deepEqual(slice.endpoints?.[0]?.addresses, ['127.0.0.1']);
});

test.serial('a deleted namespace takes Pods on nodes along at once, since no controller would end them', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod('a', { node: 'somewhere' }) });
  await core.deleteNamespace({ name: namespace });
  t.deepEqual((await core.listPodForAllNamespaces()).items, []);
});

test.serial('a body that never ends, is broken off or is far too large harms nobody', async (t) => {
  const { client, url, directory, service } = await startStandIn(t);
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

test.serial('all that was answered survives a kill, and no version is given twice', async (t) => {
  const first = await startStandIn(t);
  const core = first.client.api(CoreV1Api);
  const kubeconfig = await readFile(first.kubeconfig, 'utf8');
  const made = await Promise.all(
    Array.from({ length: 20 }, (_, at) => core.createNamespacedConfigMap({ namespace, body: { metadata: { name: `m${at}` } } })),
  );
  await core.deleteNamespacedConfigMap({ namespace, name: 'm0' });
  await first.service.stop('SIGKILL');

  const second = await startStandInOn(t, first.directory);
  const { items, metadata } = await second.client.api(CoreV1Api).listNamespacedConfigMap({ namespace });
  const uids = (of: typeof items): unknown[] => of.map((item) => item.metadata?.uid).sort();
  t.deepEqual(uids(items), uids(made.slice(1)));
  const later = await second.client.api(CoreV1Api).createNamespacedConfigMap({ namespace, body: { metadata: { name: 'later' } } });
  t.is(Number(later.metadata?.resourceVersion), Number(metadata?.resourceVersion) + 1);
  // Another port, everything else the same: who trusted it still does.
  t.is((await readFile(second.kubeconfig, 'utf8')).replace(second.url, ''), kubeconfig.replace(first.url, ''));
});

test.serial('half a line, as a kill leaves one, was never answered and is dropped', async (t) => {
  const { service, directory } = await startStandIn(t);
  await service.stop('SIGKILL');
  await appendFile(path.join(directory, 'objects.jsonl'), '{"version":99,"collection":"configm');
  const { client } = await startStandInOn(t, directory);
  await client.api(CoreV1Api).createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } });
  t.is((await client.api(CoreV1Api).listNamespacedConfigMap({ namespace })).items.length, 1);
});

test.serial('a damaged store is refused with its name and not taken for an empty cluster', async (t) => {
  const { service, directory } = await startStandIn(t);
  await service.stop();
  await writeFile(path.join(directory, 'objects.jsonl'), '{"format":1,"version":2}\n{"version":\n{}\n');
  const error = await t.throwsAsync(startStandInOn(t, directory));
  t.regex(String(error?.message), /objects\.jsonl is damaged: remove it to start with an empty cluster/);
});

test.serial('a list in pages whose moment is forgotten is Expired, and can go on with what is there now', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  for (const name of ['a', 'b', 'c']) await core.createNamespacedConfigMap({ namespace, body: { metadata: { name } } });
  const first = await core.listNamespacedConfigMap({ namespace, limit: 1 });
  for (let at = 0; at <= changesLimit; at++) {
    await core.replaceNamespacedConfigMap({ namespace, name: 'c', body: { metadata: { name: 'c' }, data: { at: String(at) } } });
  }
  await core.deleteNamespacedConfigMap({ namespace, name: 'b' });
  const next = (position: string | undefined) => core.listNamespacedConfigMap({ namespace, limit: 1, _continue: String(position) });
  const error = await t.throwsAsync(next(first.metadata?._continue), { instanceOf: ApiException });
  const status = JSON.parse((error as unknown as ApiException<string>).body) as {
    code: number;
    message: string;
    metadata: { continue: string };
  };
  t.is(status.code, 410);
  t.regex(status.message, /^The provided continue parameter is too old to display a consistent list result/);
  const { items } = await next(status.metadata.continue);
  t.deepEqual(
    items.map(({ metadata, data }) => [metadata?.name, data?.at]),
    [['c', String(changesLimit)]],
  );
});

test.serial('a full store refuses with 507 what makes it larger, and takes the rest', async (t) => {
  const { client } = await startStandIn(t);
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
