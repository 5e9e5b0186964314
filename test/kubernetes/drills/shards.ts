import test from 'ava';
import { waitFor } from '../../support/wait.ts';
import { moved } from '../support/client.ts';
import { type Drill, type Placement, secondsSince, system } from '../support/drill.ts';

const shardsIn = (placement: Placement): Set<string> => new Set(placement.values());
const areFour = (placement: Placement): boolean => shardsIn(placement).size === 4;
/** More than the drill stores, so that a share of them is a share to within a few per cent. */
const manyKeys = Array.from({ length: 1_000 }, (_, index) => `vision/many/${index}`);

/** Shards that come and go. */
export function shardDrills(opened: () => Drill): void {
  test.serial('a workload’s bound token reads what it has written and nothing else, and every shard has a part of the keys', async (t) => {
    const { client, keys, token, placed } = opened();
    const stored = await Promise.all(keys.map((key) => client.send('PUT', key, { token, body: `of ${key}` })));
    t.deepEqual([...new Set(stored.map(({ status }) => status))], [201]);
    for (const key of keys) t.is((await client.send('GET', key, { token })).body, `of ${key}`);
    t.is((await client.send('GET', 'nlp/x', { token })).status, 403);
    t.is((await client.send('GET', 'vision/x', { token: `${token}x` })).status, 401);
    t.is(shardsIn(await placed('four shards', areFour)).size, 4);
  });

  test.serial(
    'a shard’s Pod that is evicted comes back with another address and its keys, and only one other may go meanwhile',
    async (t) => {
      const drill = opened();
      const { client, keys, token } = drill;
      const before = await drill.placed('four shards', areFour);
      const load = drill.load(t);
      const evict = (name: string) =>
        drill.cluster.call('POST', `/api/v1/namespaces/${system}/pods/${name}/eviction`, {
          body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: system } },
        });
      const podNow = () => drill.podsOf('kura-cache').find(({ metadata }) => metadata?.name === 'kura-cache-1');
      const former = podNow();
      const startedAt = performance.now();
      t.is((await evict('kura-cache-1')).status, 201);
      t.is((await evict('kura-cache-2')).status, 201);
      const refused = await evict('kura-cache-3');
      t.is(refused.status, 429);
      t.regex(refused.body.message, /disruption budget/);
      await waitFor('another Pod of that name', () => podNow()?.metadata?.uid !== former?.metadata?.uid && podNow()?.status?.podIP);
      await drill.placed('every key where it was', (now) => moved(before, now) === 0);
      t.log(`every key where it was after ${secondsSince(startedAt)}, the shard’s drain of 10 s included`);
      t.not(podNow()?.status?.podIP, former?.status?.podIP);
      for (const key of keys) t.is((await client.send('GET', key, { token })).status, 200, key);
      t.log(await load.stop());
      t.deepEqual(load.failures, []);
    },
  );

  test.serial('four shards become six and four again: a third of the keys moves, and comes back', async (t) => {
    const drill = opened();
    const { client, keys, token } = drill;
    const before = await drill.placed('four shards', areFour, manyKeys);
    const load = drill.load(t);
    const scale = (replicas: number): Promise<string> =>
      drill.kubectl.ok('-n', system, 'scale', 'statefulset/kura-cache', `--replicas=${replicas}`);
    const upAt = performance.now();
    await scale(6);
    await drill.placed('six shards', (placement) => shardsIn(placement).size === 6);
    t.log(`six shards have keys after ${secondsSince(upAt)}`);
    const among = moved(before, await drill.placed('six shards', (placement) => shardsIn(placement).size === 6, manyKeys));
    t.log(`${among.toFixed(1)} % of the keys moved (a third is the least)`);
    t.true(among > 28 && among < 39);
    const downAt = performance.now();
    await scale(4);
    const after = await drill.placed('four shards', areFour, manyKeys);
    t.is(moved(before, after), 0);
    t.log(`every key is where it was ${secondsSince(downAt)} after the way back began`);
    await waitFor('the Pods are gone', () => drill.podsOf('kura-cache').length === 4);
    for (const key of keys) t.is((await client.send('GET', key, { token })).status, 200, key);
    t.log(await load.stop());
    t.deepEqual(load.failures, []);
  });

  test.serial(
    'the Node of a shard is lost: no read fails, writes for its keys do until Envoy has noticed, and its keys come back with it',
    async (t) => {
      const drill = opened();
      const before = await drill.placed('four shards', areFour);
      const [node, lost] = shardAlone(drill);
      const load = drill.load(t);
      const startedAt = performance.now();
      await drill.kubelet.setNodeLost(node, true);
      const away = await drill.placed('no answer names the lost shard', (placement) => !shardsIn(placement).has(lost));
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
      await drill.placed('every key where it was', (now) => moved(before, now) === 0);
      t.log(`every key where it was ${secondsSince(backAt)} after its Node was back`);
      t.log(await load.stop());
    },
  );

  test.serial(
    'the Node of an Envoy is lost: its clients time out until the Service has dropped it, and no other request fails for it',
    async (t) => {
      const drill = opened();
      const node = drill.podsOf('kura-envoy')[0]?.spec?.nodeName as string;
      const own = drill.kubelet.pods().filter(({ spec }) => spec?.nodeName === node);
      const load = drill.load(t);
      await drill.kubelet.setNodeLost(node, true);
      await waitFor('a client meets it', () => load.failures.some((failure) => failure.includes('no answer within')));
      await drill.markNotReady(own);
      await waitFor('the Service has dropped it', () => drill.addresses().length === 1);
      // What was sent before that ends within 3 s; a load begun afterwards meets nothing of it.
      t.log(`until then: ${await load.stop()}`);
      const later = drill.load(t);
      await waitFor('traffic flows', () => later.counts.hits > 200 && later.counts.writes > 50);
      t.log(`afterwards: ${await later.stop()}`);
      // A shard went with the Node.
      t.deepEqual(
        later.failures.filter((failure) => !/PUT .* 503 .*shard-unavailable/.test(failure)),
        [],
      );
      await drill.kubelet.setNodeLost(node, false);
      await waitFor('the Envoy is back', () => drill.addresses().length === 2);
      await drill.placed('four shards', areFour);
    },
  );
}

/** A Node that has one shard and neither Envoy nor eds, and the shard. */
function shardAlone(drill: Drill): readonly [node: string, shard: string] {
  for (const node of ['node-a', 'node-b', 'node-c']) {
    const own = drill.kubelet.pods().filter(({ spec }) => spec?.nodeName === node);
    const [pod] = own;
    if (own.length === 1 && pod?.metadata?.name?.startsWith('kura-cache')) return [node, `${pod.metadata.name}/shard-0`];
  }
  throw new Error('no Node has a shard alone');
}
