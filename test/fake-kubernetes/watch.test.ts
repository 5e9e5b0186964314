/** What only the fake Kubernetes API promises of its watches: their limits. The contract has the rest. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { connect } from 'node:tls';
import { CoreV1Api } from '@kubernetes/client-node';
import test from 'ava';
import { maxChanges } from '../../services/fake-kubernetes/history.ts';
import { readLines } from '../../services/shared/lines.ts';
import { waitFor } from '../support/wait.ts';
import { pod, startFakeKubernetes } from './fake-kubernetes.ts';

const namespace = 'vision';
const maps = `/api/v1/namespaces/${namespace}/configmaps`;

test.serial('a version from before the kept history is Expired, and the oldest kept one is good', async (t) => {
  const { client } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  const { metadata } = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } });
  const made = Number(metadata?.resourceVersion);
  for (let at = 0; at < maxChanges; at++) {
    await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { metadata: { name: 'a' }, data: { at: String(at) } } });
  }
  const first = async (resourceVersion: number): Promise<{ type: string; object: { code?: number } }> => {
    const query = { watch: 'true', resourceVersion: String(resourceVersion) };
    const { body } = await client.open(maps, { query, signal: AbortSignal.timeout(10_000) });
    for await (const line of readLines(body, 2 ** 20)) return JSON.parse(line) as { type: string; object: { code?: number } };
    throw new Error('nothing came');
  };
  t.is((await first(made)).type, 'MODIFIED');
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'b' } } });
  t.like(await first(made), { type: 'ERROR', object: { code: 410 } });
});

test.serial('a watcher that does not read costs no memory, and is cut off when it is too far behind', async (t) => {
  // The history's 32 MiB and what Node needs, twice: whoever kept what the watcher has not read would run out of it.
  const { client, url, directory } = await startFakeKubernetes(t, { NODE_OPTIONS: '--max-old-space-size=110' });
  const core = client.api(CoreV1Api);
  const token = await readFile(path.join(directory, 'admin.token'), 'utf8');
  const { hostname, port } = new URL(url);
  const lazy = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
  t.teardown(() => lazy.destroy());
  lazy.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => lazy.once('close', () => resolve()));
  await new Promise<void>((resolve) => lazy.once('secureConnect', () => resolve()));
  lazy.write(`GET ${maps}?watch=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  await new Promise<void>((resolve) => lazy.once('data', () => resolve()));
  lazy.pause();
  // 100 MB of changes, far more than sockets hold.
  const filler = 'x'.repeat(400_000);
  for (let at = 0; at < 250; at++) {
    const body = { metadata: { name: 'a' }, data: { filler: `${at}${filler}` } };
    if (at === 0) await core.createNamespacedConfigMap({ namespace, body });
    else await core.replaceNamespacedConfigMap({ namespace, name: 'a', body });
  }
  lazy.resume();
  await closed;
  t.is((await core.listNamespacedConfigMap({ namespace })).items.length, 1);
});

test.serial('more watches than allowed are refused with 429, and a place is free again when one ends', async (t) => {
  const { client } = await startFakeKubernetes(t, { KURA_KUBERNETES_WATCHES: '1' });
  const open = (query: Record<string, string>) =>
    client.open(maps, { query: { watch: 'true', ...query }, signal: AbortSignal.timeout(10_000) });
  const first = await open({ timeoutSeconds: '1' });
  const second = await open({});
  t.is(second.statusCode, 429);
  await second.body.dump();
  await first.body.dump();
  const third = await waitFor('a place is free', async () => {
    const answer = await open({ timeoutSeconds: '1' });
    await answer.body.dump();
    return answer.statusCode === 200;
  });
  t.true(third);
});

test.serial('watches end in good order while changes go on', async (t) => {
  const { client } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  const query = { watch: 'true', timeoutSeconds: '1' };
  const open = async (): Promise<void> => {
    const { body } = await client.open(maps, { query, signal: AbortSignal.timeout(10_000) });
    await body.dump();
  };
  let areOpen = true;
  const ended = Promise.all(Array.from({ length: 20 }, open)).finally(() => {
    areOpen = false;
  });
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } });
  for (let at = 0; areOpen; at++) {
    await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { metadata: { name: 'a' }, data: { at: String(at) } } });
  }
  await t.notThrowsAsync(ended);
  t.is((await core.listNamespacedConfigMap({ namespace })).items.length, 1);
});

test.serial('a list larger than sockets hold comes whole to a watch', async (t) => {
  const { client } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  const names = Array.from({ length: 30 }, (_, at) => `m${at}`).sort();
  for (const name of names)
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data: { x: 'x'.repeat(900_000) } } });
  await core.createNamespacedPod({ namespace, body: pod('other') });
  const query = { watch: 'true', timeoutSeconds: '2' };
  const { body } = await client.open(maps, { query, signal: AbortSignal.timeout(20_000) });
  const seen: string[] = [];
  for await (const line of readLines(body, 2 ** 20))
    seen.push((JSON.parse(line) as { object: { metadata: { name: string } } }).object.metadata.name);
  t.deepEqual(seen, names);
});
