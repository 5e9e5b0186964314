/** Drills on a real control plane: shards that come and go. */
import type { V1Pod } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { waitFor } from '../support/wait.ts';
import { patchTypes } from './contract/cluster.ts';
import { createServiceClient, moved, type ServiceClient } from './support/client.ts';
import { type Drill, type Placement, secondsSince, startDrill, system } from './support/drill.ts';

const test = anyTest as TestFn;
const keys = Array.from({ length: 400 }, (_, index) => `vision/drill/${index}`);
let drill: Drill;
let client: ServiceClient;
let token: string;

test.before(async (t) => {
  t.timeout(180_000);
  const startedAt = performance.now();
  drill = await startDrill();
  t.log(`${secondsSince(startedAt)} from no cluster to every Pod ready`);
  client = createServiceClient(drill.addresses, 16);
  ({ token } = await drill.workload());
});
test.after.always(async () => {
  client?.close();
  await drill?.stop();
});

function podNamed(name: string): V1Pod | undefined {
  return drill.kubelet.pods().find(({ metadata }) => metadata?.name === name);
}

/** Waits until every Envoy sends each key to the same shard, and what they agree on is as `condition` says. */
async function placed(what: string, condition: (placement: Placement) => boolean): Promise<Placement> {
  return await waitFor(
    what,
    async () => {
      const placement = await drill.placement(token, keys);
      return placement !== undefined && condition(placement) && placement;
    },
    { withinMs: 60_000, everyMs: 100 },
  );
}

const shardsOf = (placement: Placement): Set<string> => new Set(placement.values());

test.serial('a workload’s bound token reads what it has written and nothing else, and every shard has a part of the keys', async (t) => {
  const stored = await Promise.all(keys.map((key) => client.send('PUT', key, { token, body: `of ${key}` })));
  t.deepEqual([...new Set(stored.map(({ status }) => status))], [201]);
  for (const key of keys) t.is((await client.send('GET', key, { token })).body, `of ${key}`);
  t.is((await client.send('GET', 'nlp/x', { token })).status, 403);
  t.is((await client.send('GET', 'vision/x', { token: `${token}x` })).status, 401);
  await placed('four shards', (placement) => shardsOf(placement).size === 4);
});

test.serial('a shard’s Pod that is evicted comes back with another address and its keys, and no other may go meanwhile', async (t) => {
  const before = await placed('four shards', (placement) => shardsOf(placement).size === 4);
  const load = drill.load(t, { token, keys });
  const evict = (name: string) =>
    drill.cluster.call('POST', `/api/v1/namespaces/${system}/pods/${name}/eviction`, {
      body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: system } },
    });
  const former = podNamed('kura-cache-1');
  const startedAt = performance.now();
  t.is((await evict('kura-cache-1')).status, 201);
  const refused = await evict('kura-cache-2');
  t.is(refused.status, 429);
  t.regex(refused.body.message, /disruption budget/);
  await waitFor(
    'another Pod of that name',
    () => {
      const now = podNamed('kura-cache-1');
      return (
        now?.metadata?.uid !== former?.metadata?.uid &&
        now?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True')
      );
    },
    { withinMs: 60_000 },
  );
  await placed('every key where it was', (now) => moved(before, now) === 0);
  t.log(`every key where it was after ${secondsSince(startedAt)}, the shard’s drain of 10 s included`);
  t.not(podNamed('kura-cache-1')?.status?.podIP, former?.status?.podIP);
  for (const key of keys) t.is((await client.send('GET', key, { token })).status, 200, key);
  t.log(await load.stop());
  t.deepEqual(load.failures, []);
});

test.serial('four shards become six and four again: a third of the keys moves, and comes back', async (t) => {
  const before = await placed('four shards', (placement) => shardsOf(placement).size === 4);
  const load = drill.load(t, { token, keys });
  const scale = (replicas: number): Promise<string> =>
    drill.kubectl.ok('-n', system, 'scale', 'statefulset/kura-cache', `--replicas=${replicas}`);
  const upAt = performance.now();
  await scale(6);
  const six = await placed('six shards', (placement) => shardsOf(placement).size === 6);
  t.log(`six shards have keys after ${secondsSince(upAt)}`);
  const among = moved(before, six);
  t.log(`${among.toFixed(1)} % of the keys moved (a third is the least)`);
  t.true(among > 25 && among < 41);
  const downAt = performance.now();
  await scale(4);
  await placed('every key where it was', (now) => moved(before, now) === 0);
  t.log(`every key is where it was ${secondsSince(downAt)} after the way back began`);
  await waitFor(
    'their Pods are gone',
    () => drill.kubelet.pods().filter(({ metadata }) => metadata?.name?.startsWith('kura-cache')).length === 4,
    {
      withinMs: 60_000,
    },
  );
  for (const key of keys) t.is((await client.send('GET', key, { token })).status, 200, key);
  t.log(await load.stop());
  t.deepEqual(load.failures, []);
});

test.serial(
  'the Node of a shard is lost: no read fails, writes for its keys do until Envoy has noticed, and its keys come back with it',
  async (t) => {
    const before = await placed('four shards', (placement) => shardsOf(placement).size === 4);
    const [node, lost] = shardAlone();
    const load = drill.load(t, { token, keys });
    const startedAt = performance.now();
    await drill.kubelet.setNodeLost(node, true);
    const away = await placed('no answer names the lost shard', (placement) => !shardsOf(placement).has(lost));
    t.log(`its keys are others’ after ${secondsSince(startedAt)}: ${moved(before, away).toFixed(1)} % of the keys`);
    t.deepEqual(
      [...before].filter(([key, shard]) => shard !== lost && away.get(key) !== shard),
      [],
    );
    t.deepEqual(
      load.failures.filter((failure) => !/PUT .* 503 .*shard-unavailable/.test(failure)),
      [],
    );
    const backAt = performance.now();
    await drill.kubelet.setNodeLost(node, false);
    await placed('every key where it was', (now) => moved(before, now) === 0);
    t.log(`every key where it was ${secondsSince(backAt)} after its Node was back`);
    t.log(await load.stop());
  },
);

test.serial(
  'the Node of an Envoy is lost: its clients time out until the Service has dropped it, the others’ requests do not fail',
  async (t) => {
    const node = drill.kubelet.pods().find(({ metadata }) => metadata?.labels?.['app.kubernetes.io/name'] === 'kura-envoy')?.spec
      ?.nodeName as string;
    const own = drill.kubelet.pods().filter(({ spec }) => spec?.nodeName === node);
    const load = drill.load(t, { token, keys });
    await drill.kubelet.setNodeLost(node, true);
    await waitFor('a client meets it', () => load.failures.some((failure) => failure.includes('no answer within')));
    // As the node lifecycle controller does when a kubelet has been silent for 40 s.
    for (const { metadata } of own) {
      await drill.cluster.ok('PATCH', `/api/v1/namespaces/${system}/pods/${metadata?.name}/status`, {
        body: { status: { conditions: [{ type: 'Ready', status: 'False' }] } },
        headers: { 'content-type': patchTypes.strategic },
      });
    }
    await waitFor('the Service has dropped it', () => drill.addresses().length === 1);
    // What was sent before that ends within 3 s; a load begun afterwards meets nothing of it.
    await load.stop();
    const later = drill.load(t, { token, keys });
    await waitFor('traffic flows', () => later.counts.hits > 200 && later.counts.writes > 50);
    t.log(`before: ${load.failures.length} failed; afterwards: ${await later.stop()}`);
    t.deepEqual(
      later.failures.filter((failure) => !failure.includes('shard-unavailable')),
      [],
    );
    await drill.kubelet.setNodeLost(node, false);
    await waitFor('the Envoy is back', () => drill.addresses().length === 2, { withinMs: 60_000 });
  },
);

/** A Node that has one shard and neither Envoy nor eds, and the shard. */
function shardAlone(): readonly [node: string, shard: string] {
  for (const node of ['node-a', 'node-b', 'node-c']) {
    const own = drill.kubelet.pods().filter(({ spec }) => spec?.nodeName === node);
    const [pod] = own;
    if (own.length === 1 && pod?.metadata?.name?.startsWith('kura-cache')) return [node, `${pod.metadata.name}/shard-0`];
  }
  throw new Error('no Node has a shard alone');
}
