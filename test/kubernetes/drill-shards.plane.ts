/** Drills on a real control plane: shards that come and go. */
import type { V1Pod } from '@kubernetes/client-node';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { waitFor } from '../support/wait.ts';
import { patchTypes } from './contract/cluster.ts';
import { createServiceClient, type Load, moved, placement, type ServiceClient, startLoad } from './support/client.ts';
import { type Drill, secondsSince, startDrill, system } from './support/drill.ts';

const test = anyTest as TestFn;
const keys = Array.from({ length: 400 }, (_, index) => `vision/drill/${index}`);
let drill: Drill;
let client: ServiceClient;
let token: string;
const addresses = (): readonly string[] => drill.kubelet.addresses('kura');

test.before(async (t) => {
  t.timeout(180_000);
  const startedAt = performance.now();
  drill = await startDrill();
  t.log(`${secondsSince(startedAt)} from no cluster to every Pod ready`);
  client = createServiceClient(addresses, 16);
  ({ token } = await drill.workload());
});
test.after.always(async () => {
  client?.close();
  await drill?.stop();
});

function startOwnLoad(t: ExecutionContext): Load {
  const load = startLoad({ addresses, token, keys });
  t.teardown(() => load.stop());
  return load;
}

function podNamed(name: string): V1Pod | undefined {
  return drill.kubelet.pods().find(({ metadata }) => metadata?.name === name);
}

/** Stops the load and says in a line what it met. */
async function totals(load: Load): Promise<string> {
  await load.stop();
  const { hits, misses, writes } = load.counts;
  return `${hits} hits, ${misses} misses, ${writes} writes, ${load.failures.length} failed`;
}

async function isPlaced(expected: ReadonlyMap<string, string>): Promise<boolean> {
  return moved(expected, await placement(client, token, keys)) === 0;
}

test.serial('a workload’s bound token reads what it has written and nothing else, and every shard has a part of the keys', async (t) => {
  const stored = await Promise.all(keys.map((key) => client.send('PUT', key, { token, body: `of ${key}` })));
  t.deepEqual([...new Set(stored.map(({ status }) => status))], [201]);
  for (const key of keys) t.is((await client.send('GET', key, { token })).body, `of ${key}`);
  t.is((await client.send('GET', 'nlp/x', { token })).status, 403);
  t.is((await client.send('GET', 'vision/x', { token: `${token}x` })).status, 401);
  t.is(new Set((await placement(client, token, keys)).values()).size, 4);
});

test.serial('a shard’s Pod that is evicted comes back with another address and its keys, and no other may go meanwhile', async (t) => {
  const before = await placement(client, token, keys);
  const load = startOwnLoad(t);
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
  await waitFor('every key where it was', () => isPlaced(before));
  t.log(`every key where it was after ${secondsSince(startedAt)}, the shard’s drain of 10 s included`);
  t.not(podNamed('kura-cache-1')?.status?.podIP, former?.status?.podIP);
  for (const key of keys) t.is((await client.send('GET', key, { token })).status, 200, key);
  t.log(await totals(load));
  t.deepEqual(load.failures, []);
});

test.serial('four shards become six and four again: a third of the keys moves, and comes back', async (t) => {
  const before = await placement(client, token, keys);
  const load = startOwnLoad(t);
  const scale = (replicas: number): Promise<string> =>
    drill.kubectl.ok('-n', system, 'scale', 'statefulset/kura-cache', `--replicas=${replicas}`);
  const shards = async (): Promise<number> => new Set((await placement(client, token, keys)).values()).size;
  const upAt = performance.now();
  await scale(6);
  await waitFor('six shards', async () => (await shards()) === 6, { withinMs: 60_000 });
  t.log(`six shards have keys after ${secondsSince(upAt)}`);
  const among = moved(before, await placement(client, token, keys));
  t.log(`${among.toFixed(1)} % of the keys moved (a third is the least)`);
  t.true(among > 25 && among < 41);
  const downAt = performance.now();
  await scale(4);
  await waitFor('every key where it was', () => isPlaced(before), { withinMs: 60_000 });
  t.log(`every key is where it was ${secondsSince(downAt)} after the way back began`);
  await waitFor(
    'their Pods are gone',
    () => drill.kubelet.pods().filter(({ metadata }) => metadata?.name?.startsWith('kura-cache')).length === 4,
    {
      withinMs: 60_000,
    },
  );
  for (const key of keys) t.is((await client.send('GET', key, { token })).status, 200, key);
  t.log(await totals(load));
  t.deepEqual(load.failures, []);
});

test.serial(
  'the Node of a shard is lost: no read fails, writes for its keys do until Envoy has noticed, and its keys come back with it',
  async (t) => {
    const before = await placement(client, token, keys);
    const [node, lost] = shardAlone();
    const load = startOwnLoad(t);
    const startedAt = performance.now();
    await drill.kubelet.setNodeLost(node, true);
    const away = await waitFor(
      'no answer names the lost shard',
      async () => {
        const now = await placement(client, token, keys);
        return ![...now.values()].includes(lost) && now;
      },
      { withinMs: 30_000, everyMs: 100 },
    );
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
    await waitFor('every key where it was', () => isPlaced(before), { withinMs: 60_000, everyMs: 100 });
    t.log(`every key where it was ${secondsSince(backAt)} after its Node was back`);
    t.log(await totals(load));
  },
);

test.serial(
  'the Node of an Envoy is lost: its clients time out until the Service has dropped it, the others’ requests do not fail',
  async (t) => {
    const node = drill.kubelet.pods().find(({ metadata }) => metadata?.labels?.['app.kubernetes.io/name'] === 'kura-envoy')?.spec
      ?.nodeName as string;
    const own = drill.kubelet.pods().filter(({ spec }) => spec?.nodeName === node);
    const load = startOwnLoad(t);
    await drill.kubelet.setNodeLost(node, true);
    await waitFor('a client meets it', () => load.failures.some((failure) => failure.includes('no answer within')));
    // As the node lifecycle controller does when a kubelet has been silent for 40 s.
    for (const { metadata } of own) {
      await drill.cluster.ok('PATCH', `/api/v1/namespaces/${system}/pods/${metadata?.name}/status`, {
        body: { status: { conditions: [{ type: 'Ready', status: 'False' }] } },
        headers: { 'content-type': patchTypes.strategic },
      });
    }
    await waitFor('the Service has dropped it', () => addresses().length === 1);
    // What was sent before that ends within 3 s; a load begun afterwards meets nothing of it.
    await totals(load);
    const later = startOwnLoad(t);
    await waitFor('traffic flows', () => later.counts.hits > 200 && later.counts.writes > 50);
    t.log(`before: ${load.failures.length} failed; afterwards: ${await totals(later)}`);
    t.deepEqual(
      later.failures.filter((failure) => !failure.includes('shard-unavailable')),
      [],
    );
    await drill.kubelet.setNodeLost(node, false);
    await waitFor('the Envoy is back', () => addresses().length === 2, { withinMs: 60_000 });
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
