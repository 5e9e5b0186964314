import { CoreV1Api } from '@kubernetes/client-node';
import test from 'ava';
import type { KubernetesClient } from '../../../services/shared/kubernetes.ts';
import { readLines } from '../../../services/shared/lines.ts';
import { pod, startStandIn, startStandInOn } from './stand-in.ts';

const namespace = 'vision';
const pods = `/api/v1/namespaces/${namespace}/pods`;

interface Event {
  readonly type: string;
  readonly object: {
    readonly kind: string;
    readonly code?: number;
    readonly spec?: object;
    readonly metadata: { readonly name: string; readonly resourceVersion: string; readonly annotations?: object };
  };
}

/** Opens a watch; the generator gives its events as they come. */
async function watch(
  client: KubernetesClient,
  query: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<AsyncGenerator<Event>> {
  const { statusCode, body } = await client.open(pods, {
    query: { watch: 'true', ...query },
    headers,
    signal: AbortSignal.timeout(20_000),
  });
  if (statusCode !== 200) throw new Error(`the watch was answered ${statusCode}`);
  return (async function* () {
    for await (const line of readLines(body, 2 ** 20)) yield JSON.parse(line) as Event;
  })();
}

async function take(events: AsyncGenerator<Event>, count: number): Promise<string[]> {
  const taken: string[] = [];
  while (taken.length < count) {
    const { value, done } = await events.next();
    if (done) break;
    taken.push(`${value.type} ${value.object.metadata?.name}`);
  }
  return taken;
}

test.serial('a watch begins after its version and tells every change in order', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod('before') });
  const { metadata } = await core.listNamespacedPod({ namespace });
  const events = await watch(client, { resourceVersion: String(metadata?.resourceVersion) });
  await core.createNamespacedPod({ namespace, body: pod('a') });
  await core.createNamespacedPod({ namespace, body: pod('b') });
  await core.deleteNamespacedPod({ namespace, name: 'a' });
  t.deepEqual(await take(events, 4), ['ADDED a', 'ADDED b', 'MODIFIED a', 'DELETED a']);
});

test.serial('a watch without a version begins with everything', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod('a') });
  t.deepEqual(await take(await watch(client, {}), 1), ['ADDED a']);
});

test.serial('an object that comes to match is added and one that ceases to is deleted', async (t) => {
  const { client } = await startStandIn(t);
  const core = client.api(CoreV1Api);
  const events = await watch(client, { fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed', labelSelector: 'app=x' });
  await core.createNamespacedPod({ namespace, body: pod('other', { labels: { app: 'y' } }) });
  await core.createNamespacedPod({ namespace, body: pod('a', { labels: { app: 'x' } }) });
  const running = await core.readNamespacedPod({ namespace, name: 'a' });
  await core.replaceNamespacedPodStatus({ namespace, name: 'a', body: { ...running, status: { phase: 'Running' } } });
  const ended = await core.readNamespacedPod({ namespace, name: 'a' });
  await core.replaceNamespacedPodStatus({ namespace, name: 'a', body: { ...ended, status: { phase: 'Succeeded' } } });
  t.deepEqual(await take(events, 3), ['ADDED a', 'MODIFIED a', 'DELETED a']);
});

test.serial('metadata alone is sent where that is asked for', async (t) => {
  const { client } = await startStandIn(t);
  await client.api(CoreV1Api).createNamespacedPod({ namespace, body: pod('a') });
  const accept = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
  const { value } = await (await watch(client, {}, { accept })).next();
  t.is(value.object.kind, 'PartialObjectMetadata');
  t.is(value.object.spec, undefined);
  const { body } = await client.open(pods, {
    headers: { accept: accept.replace('Metadata;', 'MetadataList;') },
    signal: AbortSignal.timeout(5_000),
  });
  const list = (await body.json()) as { kind: string; items: object[] };
  t.is(list.kind, 'PartialObjectMetadataList');
  t.deepEqual(Object.keys(list.items[0] ?? {}).sort(), ['apiVersion', 'kind', 'metadata']);
});

test.serial('bookmarks come while nothing happens, with a version to resume from', async (t) => {
  const { client } = await startStandIn(t, { KURA_KUBERNETES_BOOKMARK: '20ms' });
  const { metadata } = await client.api(CoreV1Api).listNamespacedPod({ namespace });
  const { value } = await (await watch(client, { allowWatchBookmarks: 'true', resourceVersion: String(metadata?.resourceVersion) })).next();
  t.is(value.type, 'BOOKMARK');
  t.is(value.object.metadata.resourceVersion, metadata?.resourceVersion);
});

test.serial('a WatchList sends everything and then a marked bookmark', async (t) => {
  const { client } = await startStandIn(t);
  await client.api(CoreV1Api).createNamespacedPod({ namespace, body: pod('a') });
  const query = { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan', allowWatchBookmarks: 'true' };
  const events = await watch(client, query);
  t.deepEqual(await take(events, 1), ['ADDED a']);
  const { value } = await events.next();
  t.is(value.type, 'BOOKMARK');
  t.deepEqual(value.object.metadata.annotations, { 'k8s.io/initial-events-end': 'true' });
});

test.serial('a version from before a restart is answered with ERROR 410 and a clean end', async (t) => {
  const first = await startStandIn(t);
  const { metadata } = await first.client.api(CoreV1Api).listNamespacedPod({ namespace });
  await first.service.stop();
  const second = await startStandInOn(t, first.directory);
  const events = await watch(second.client, { resourceVersion: String(metadata?.resourceVersion) });
  const { value } = await events.next();
  t.is(value.type, 'ERROR');
  t.is(value.object.code, 410);
  t.true((await events.next()).done);
});

test.serial('a list from the future is refused, a watch from there is silent', async (t) => {
  const { client } = await startStandIn(t);
  const list = await client.open(pods, {
    query: { resourceVersion: '999999', resourceVersionMatch: 'NotOlderThan' },
    signal: AbortSignal.timeout(5_000),
  });
  t.is(list.statusCode, 504);
  t.regex(await list.body.text(), /Too large resource version/);
  const events = await watch(client, { resourceVersion: '999999', timeoutSeconds: '1' });
  t.true((await events.next()).done);
});

test.serial('more watches than allowed are refused with 429, and a place is free again when one ends', async (t) => {
  const { client } = await startStandIn(t, { KURA_KUBERNETES_WATCHES: '1' });
  const open = (query: Record<string, string>) =>
    client.open(pods, { query: { watch: 'true', ...query }, signal: AbortSignal.timeout(10_000) });
  const first = await open({ timeoutSeconds: '1' });
  const second = await open({});
  t.is(second.statusCode, 429);
  await second.body.dump();
  await first.body.dump();
  t.is((await open({ timeoutSeconds: '1' })).statusCode, 200);
});
