/** The overlay nvme: tainted GPU nodes with two disks each, one of them not mounted at first, and one node with larger disks. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type TestFn } from 'ava';
import { waitFor } from '../support/wait.ts';
import { type Drill, secondsSince, startDrill, system } from './support/drill.ts';
import type { Kubelet } from './support/kubelet.ts';
import { canBecomeOthers } from './support/user.ts';

const run = promisify(execFile);
const test = anyTest as TestFn;
/** Node → its label kura/cache. */
const nodes = { 'node-a': 'true', 'node-b': 'true', 'node-c': 'large' };
const disks = ['/mnt/nvme0', '/mnt/nvme1'];
const shards = Object.keys(nodes).flatMap((node) => disks.map((_, number) => `${node}/shard-${number}`));
const unmounted = 'node-b/shard-1';
let drill: Drill;

test.before(async (t) => {
  t.timeout(180_000);
  drill = await startDrill({
    resource: 'overlays/nvme',
    components: ['second-disk-size'],
    prepare: async (cluster, kubelet) => {
      for (const [node, label] of Object.entries(nodes)) {
        const body = {
          metadata: { labels: { 'kura/cache': label } },
          spec: { taints: [{ key: 'nvidia.com/gpu', value: 'present', effect: 'NoSchedule' }] },
        };
        const headers = { 'content-type': 'application/merge-patch+json' };
        await cluster.ok('PATCH', `/api/v1/nodes/${node}`, { body, headers });
        for (const [number, disk] of disks.entries()) {
          if (`${node}/shard-${number}` === unmounted) await mkdir(mountPoint(kubelet, node, disk), { recursive: true });
          else await mount(kubelet, node, disk);
        }
      }
    },
  });
});
test.after.always(() => drill?.stop());

function mountPoint(kubelet: Kubelet, node: string, disk: string): string {
  return path.join(kubelet.nodeFolder(node), disk);
}

/** What an operator does once on each disk. */
async function mount(kubelet: Kubelet, node: string, disk: string): Promise<void> {
  const folder = path.join(mountPoint(kubelet, node, disk), 'kura');
  await mkdir(folder, { recursive: true });
  if (canBecomeOthers) await run('chown', ['65532:65532', folder]);
  await writeFile(path.join(folder, '.kura-disk'), '');
}

/** How many of the objects' keys each shard has. */
async function sharesOf(what: string, count: number): Promise<Map<string, number>> {
  const shares = new Map<string, number>();
  const placement = await drill.placed(what, (found) => new Set(found.values()).size === count);
  for (const shard of placement.values()) shares.set(shard, (shares.get(shard) ?? 0) + 1);
  return new Map([...shares].sort());
}

test.serial('each node has one Pod with a shard for each mounted disk', async (t) => {
  t.is(drill.podsOf('kura-cache').length, 3);
  t.deepEqual(new Set(drill.podsOf('kura-cache').map(({ spec }) => spec?.priorityClassName)), new Set(['kura']));
  const shares = await sharesOf('every mounted disk has keys', 5);
  t.deepEqual(
    [...shares.keys()].sort(),
    shards.filter((shard) => shard !== unmounted),
  );
  const logs = await Promise.all(drill.kubelet.logs('kura-cache', 'cache'));
  const reason = '/data/1/kura has no file .kura-disk (ENOENT): its disk is probably not mounted';
  t.is(logs.filter((log) => log.includes(reason)).length, 1);
  t.deepEqual(await readdir(mountPoint(drill.kubelet, 'node-b', '/mnt/nvme1')), [], 'nothing is written below the mount point');
});

test.serial('a disk that is mounted later is in service without a restart of the Pod', async (t) => {
  const before = drill.podsOf('kura-cache').map(({ metadata }) => metadata?.uid);
  const load = drill.load(t);
  await mount(drill.kubelet, 'node-b', '/mnt/nvme1');
  const startedAt = performance.now();
  const shares = await sharesOf('all six disks have keys', 6);
  t.log(`six shards after ${secondsSince(startedAt)}; ${await load.stop()}`);
  t.deepEqual(load.failures, []);
  t.deepEqual([...shares.keys()], shards);
  t.deepEqual(
    drill.podsOf('kura-cache').map(({ metadata }) => metadata?.uid),
    before,
  );
});

test.serial('a rolling update loses no object and no weight, and fails no request', async (t) => {
  t.timeout(240_000);
  const { client, keys, token } = drill;
  for (const key of keys) t.is((await client.send('PUT', key, { token, body: `of ${key}` })).status, 201);
  const shares = await sharesOf('all disks have keys', 6);
  const former = new Set(drill.podsOf('kura-cache').map(({ metadata }) => metadata?.uid));
  const load = drill.load(t);
  const startedAt = performance.now();
  await drill.kubectl.ok('-n', system, 'rollout', 'restart', 'daemonset/kura-cache', 'daemonset/kura-cache-large');
  await drill.settled();
  await waitFor('the old Pods are gone', () => !drill.podsOf('kura-cache').some(({ metadata }) => former.has(metadata?.uid)), {
    withinMs: 120_000,
  });
  t.log(`three Pods are new after ${secondsSince(startedAt)}; ${await load.stop()}`);
  t.deepEqual(load.failures.slice(0, 10), []);
  t.deepEqual(await sharesOf('all disks have their keys', 6), shares);
  for (const key of keys) t.is((await client.send('GET', key, { token })).status, 200, key);
  const large = [...shares].filter(([shard]) => shard.startsWith('node-c/')).reduce((sum, [, count]) => sum + count, 0);
  // Two of six shards, each with the weight of two: half of the keys.
  t.true(large > keys.length * 0.4 && large < keys.length * 0.6, `${large} of ${keys.length}`);
});
