/** A shard whose Pod stays Pending for good, as after the loss of a node with its local volume. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type TestFn } from 'ava';
import { waitFor } from '../support/wait.ts';
import { binariesDirectory } from './plane/plane.ts';
import { type Drill, secondsSince, startDrill, system } from './support/drill.ts';

const run = promisify(execFile);
const runbook = path.resolve(import.meta.dirname, '..', '..', 'docs', 'operate.md');
const test = anyTest as TestFn;
const pending = 'kura-cache-2';
let drill: Drill;
test.before(async (t) => {
  t.timeout(180_000);
  drill = await startDrill();
  drill.kubelet.keepPending(pending);
  await drill.kubectl.ok('-n', system, 'delete', 'pod', pending, '--wait=false');
  await waitFor('the shard is Pending', () => {
    const pod = drill.podsOf('kura-cache').find(({ metadata }) => metadata?.name === pending);
    return pod?.metadata?.deletionTimestamp === undefined && pod?.spec !== undefined && pod.spec.nodeName === undefined;
  });
});
test.after.always(() => drill?.stop());

/** Ready Pods of the other shards, by name. */
function readyShards(): Map<string, string> {
  const shards = drill.podsOf('kura-cache').filter(({ metadata, status }) => {
    const isReady = status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True');
    return isReady && metadata?.deletionTimestamp === undefined;
  });
  return new Map(shards.map(({ metadata }) => [metadata?.name as string, metadata?.uid as string]));
}

const areNew = (former: ReadonlyMap<string, string>): boolean => {
  const now = readyShards();
  return now.size === 3 && [...now].every(([name, uid]) => former.get(name) !== uid);
};

test.serial('the other shards are updated all the same, and no request fails', async (t) => {
  t.timeout(240_000);
  const former = readyShards();
  t.is(former.size, 3);
  const load = drill.load(t);
  const startedAt = performance.now();
  await drill.kubectl.ok('-n', system, 'rollout', 'restart', 'statefulset/kura-cache');
  await waitFor('the shards with higher numbers are new', () => {
    const last = readyShards().get('kura-cache-3');
    return last !== undefined && last !== former.get('kura-cache-3');
  });
  await waitFor('the Pending shard has the new version', async () => {
    const pod = ['-n', system, 'get', 'pod', pending, '-o', 'jsonpath={.metadata.labels.controller-revision-hash}'];
    const revision = ['-n', system, 'get', 'statefulset', 'kura-cache', '-o', 'jsonpath={.status.updateRevision}'];
    return (await drill.kubectl.ok(...pod)) === (await drill.kubectl.ok(...revision));
  });
  // What the runbook offers where Kubernetes drops maxUnavailable of a StatefulSet, as this version does.
  const [, commands = ''] = /^```sh\n(new=.*?)^```$/ms.exec(await readFile(runbook, 'utf8')) ?? [];
  const { kubeconfig } = drill.plane;
  const env = { PATH: `${binariesDirectory}:/usr/bin:/bin`, KUBECONFIG: kubeconfig, HOME: path.dirname(kubeconfig) };
  await run('sh', ['-euc', commands], { env });
  await waitFor('the three others are new', () => areNew(former));
  t.log(`three shards of four are new after ${secondsSince(startedAt)}; ${await load.stop()}`);
  t.deepEqual(load.failures, []);
});

test.serial('every node is drained of its shards all the same', async (t) => {
  t.timeout(240_000);
  const former = readyShards();
  const startedAt = performance.now();
  for (const node of ['node-a', 'node-b', 'node-c']) {
    // Envoys take a minute each to end, and they are not what this is about.
    const selector = '--pod-selector=app.kubernetes.io/name=kura-cache';
    await drill.kubectl.ok('drain', node, selector, '--timeout=120s');
    await waitFor('its shards are elsewhere', () => readyShards().size === 3, { withinMs: 90_000 });
    await drill.kubectl.ok('uncordon', node);
  }
  t.log(`three nodes are drained after ${secondsSince(startedAt)}`);
  t.true(areNew(former));
});
