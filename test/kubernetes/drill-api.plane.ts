/** Drills on a real control plane: tokens that end, a Kubernetes API that is away or not itself, and a policy that changes. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import anyTest, { type TestFn } from 'ava';
import { parse, stringify } from 'yaml';
import { readMetric } from '../support/metrics.ts';
import { waitFor } from '../support/wait.ts';
import { createServiceClient, type ServiceClient } from './support/client.ts';
import { type Drill, secondsSince, startDrill, system } from './support/drill.ts';

const test = anyTest as TestFn;
const keys = Array.from({ length: 200 }, (_, index) => `vision/api/${index}`);
const grantSeconds = 5;
/** Of the test's own asking and of a machine that is shared. */
const slackSeconds = 0.5;
let drill: Drill;
let client: ServiceClient;
let token: string;

test.before(async (t) => {
  t.timeout(180_000);
  drill = await startDrill();
  client = createServiceClient(drill.addresses, 16);
  ({ token } = await drill.workload());
  await Promise.all(keys.map((key) => client.send('PUT', key, { token, body: `of ${key}` })));
});
test.after.always(async () => {
  client?.close();
  await drill?.stop();
});

const statusOf = async (key: string, as: string): Promise<number> => (await client.send('GET', key, { token: as })).status;

/** Asks through every Envoy, by many connections, until the token has been refused for a second without an exception; when it was last let in, in seconds. */
async function secondsUntilRefused(as: string, startedAt: number): Promise<number> {
  let lastLetIn = 0;
  let refusedSince = Number.POSITIVE_INFINITY;
  await waitFor(
    'the token is refused',
    async () => {
      const statuses = await Promise.all(Array.from({ length: 8 }, () => statusOf('vision/api/1', as)));
      const at = performance.now();
      if (statuses.every((status) => status === 401)) refusedSince = Math.min(refusedSince, at);
      else {
        lastLetIn = at;
        refusedSince = Number.POSITIVE_INFINITY;
      }
      return at - refusedSince > 1_000;
    },
    { withinMs: 60_000, everyMs: 50 },
  );
  return (lastLetIn - startedAt) / 1000;
}

async function deleteByForce(pod: { metadata?: { name?: string; namespace?: string } }): Promise<void> {
  await drill.cluster.ok('DELETE', `/api/v1/namespaces/${pod.metadata?.namespace}/pods/${pod.metadata?.name}?gracePeriodSeconds=0`);
}

function authzMetrics(): string[] {
  return drill.addresses().map((address) => `http://${address}:9903/metrics`);
}

test.serial('the token of a Pod that is deleted ends within 1 s and the time of a grant', async (t) => {
  const { pod, token: own } = await drill.workload();
  for (let asked = 0; asked < 50; asked++) t.is(await statusOf('vision/api/1', own), 200);
  const startedAt = performance.now();
  await deleteByForce(pod);
  const seconds = await secondsUntilRefused(own, startedAt);
  t.log(`let in for the last time ${seconds.toFixed(1)} s after the Pod was deleted`);
  t.true(seconds < 1 + grantSeconds + slackSeconds);
});

test.serial('with the watch on Pods broken it ends within 10 s and the time of a grant', async (t) => {
  const { pod, token: own } = await drill.workload();
  const rules = '/apis/rbac.authorization.k8s.io/v1/clusterroles/kura-authz';
  const role = await drill.cluster.ok('GET', rules);
  const withoutPods = role.rules.map((rule: { resources: string[] }) => ({
    ...rule,
    resources: rule.resources.filter((name) => name !== 'pods'),
  }));
  await drill.cluster.ok('PUT', rules, { body: { ...role, metadata: { name: role.metadata.name }, rules: withoutPods } });
  // A watch that is open is not ended by what its owner may no longer do.
  await drill.cluster.source.restart();
  const areWatched = async (expected: number): Promise<boolean> => {
    const healthy = await Promise.all(authzMetrics().map((url) => readMetric(url, 'kura_authz_pod_watch_healthy')));
    return healthy.every((each) => each === expected);
  };
  try {
    await waitFor('no authz watches the Pods', () => areWatched(0));
    await waitFor('the token is good', async () => (await statusOf('vision/api/1', own)) === 200);
    for (let asked = 0; asked < 50; asked++) t.is(await statusOf('vision/api/1', own), 200);
    const startedAt = performance.now();
    await deleteByForce(pod);
    const seconds = await secondsUntilRefused(own, startedAt);
    t.log(`let in for the last time ${seconds.toFixed(1)} s after the Pod was deleted`);
    t.true(seconds < 10 + grantSeconds + slackSeconds);
  } finally {
    await drill.cluster.ok('PUT', rules, { body: { ...role, metadata: { name: role.metadata.name } } });
  }
  const startedAt = performance.now();
  await waitFor('every authz watches the Pods again', () => areWatched(1));
  t.log(`watched again ${secondsSince(startedAt)} after the right was back`);
});

test.serial(
  'without the Kubernetes API for a minute known tokens go on, unknown ones get 503, and what changed arrives afterwards',
  async (t) => {
    t.timeout(180_000);
    const { token: unknown } = await drill.workload();
    const load = drill.load(t, { token, keys });
    await waitFor('traffic flows through every Envoy', () => load.counts.hits > 200);
    await drill.plane.signal('apiserver', 'SIGKILL');
    const startedAt = performance.now();
    const refusals = new Set<number>();
    while (performance.now() - startedAt < 60_000) {
      const askedAt = performance.now();
      refusals.add(await statusOf('vision/api/1', unknown));
      t.true(performance.now() - askedAt < 1_500);
      await delay(500);
    }
    t.deepEqual([...refusals], [503]);
    await drill.plane.start('apiserver');
    const backAt = performance.now();
    await waitFor('the unknown token is known', async () => (await statusOf('vision/api/1', unknown)) === 200);
    t.log(`a new token is let in ${secondsSince(backAt)} after the API is back`);
    await drill.kubectl.ok('-n', system, 'scale', 'statefulset/kura-cache', '--replicas=5');
    await waitFor('a fifth shard has keys', async () => new Set((await drill.placement(token, keys))?.values()).size === 5, {
      withinMs: 60_000,
    });
    t.log(`a fifth shard, asked for then, has keys after ${secondsSince(backAt)}`);
    t.log(`${await load.stop()}, the minute without API included`);
    t.deepEqual(load.failures, []);
    await drill.kubectl.ok('-n', system, 'scale', 'statefulset/kura-cache', '--replicas=4');
  },
);

test.serial('with etcd frozen known tokens go on, and an unknown one gets 503 and never 401', async (t) => {
  const { token: unknown } = await drill.workload();
  const load = drill.load(t, { token, keys });
  await waitFor('traffic flows', () => load.counts.hits > 200);
  await drill.plane.signal('etcd', 'SIGSTOP');
  const startedAt = performance.now();
  const seen = new Set<number>();
  try {
    while (performance.now() - startedAt < 15_000) {
      seen.add(await statusOf('vision/api/2', unknown));
      await delay(500);
    }
  } finally {
    await drill.plane.signal('etcd', 'SIGCONT');
  }
  const thawedAt = performance.now();
  t.log(`an unknown token got ${[...seen].join(', ')}`);
  t.false(seen.has(401));
  await waitFor('the unknown token is known', async () => (await statusOf('vision/api/2', unknown)) === 200, { withinMs: 60_000 });
  t.log(`it is let in ${secondsSince(thawedAt)} after etcd goes on; ${await load.stop()}`);
  t.deepEqual(load.failures, []);
});

test.serial('an API that answers 403 and worse just after its start makes no good token a bad one', async (t) => {
  t.timeout(120_000);
  const asOwn = async (): Promise<number> => {
    const body = { spec: { token: 'x', audiences: ['kura'] } };
    return await drill.cluster.call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', { body, token: own }).then(
      ({ status }) => status,
      () => 0,
    );
  };
  const own = await drill.kubectl.ok('-n', system, 'create', 'token', 'kura-envoy').then((text) => text.trim());
  t.is(await asOwn(), 201);
  const tokens = await Promise.all(Array.from({ length: 300 }, async () => (await drill.workload()).token));
  const statuses = new Map<number, number>();
  const answers = new Map<number, number>();
  const count = (map: Map<number, number>, status: number): void => void map.set(status, (map.get(status) ?? 0) + 1);
  for (let round = 0; round < 3; round++) {
    await drill.plane.signal('apiserver', 'SIGKILL');
    let isUp = false;
    const probe = async (): Promise<void> => {
      while (!isUp) {
        count(answers, await asOwn());
        await delay(5);
      }
    };
    const ask = async (): Promise<void> => {
      for (const each of tokens.slice(round * 100, round * 100 + 100)) {
        count(statuses, await statusOf('vision/api/3', each));
        await delay(40);
      }
    };
    const asking = Promise.all([probe(), ask()]);
    await drill.plane.start('apiserver');
    await waitFor('the API knows its own', async () => (await asOwn()) === 201);
    isUp = true;
    await asking;
  }
  t.log(`authz’s own call to the API: ${[...answers].map(([status, times]) => `${status || 'no answer'} ${times}×`).join(', ')}`);
  t.log(`never seen tokens meanwhile: ${[...statuses].map(([status, times]) => `${status} ${times}×`).join(', ')}`);
  t.true((answers.get(403) ?? 0) > 0, 'the API did not answer 403 this time');
  t.deepEqual(
    [...statuses.keys()].filter((status) => status !== 200 && status !== 503),
    [],
  );
  for (const each of tokens.slice(0, 20)) await waitFor('good again', async () => (await statusOf('vision/api/3', each)) === 200);
});

test.serial('a policy is in force at once; a broken or deleted one changes nothing; a restored one is in force again', async (t) => {
  const file = path.resolve(import.meta.dirname, '..', '..', 'k8s', 'base', 'policy.yaml');
  const original = await readFile(file, 'utf8');
  const maps = `/api/v1/namespaces/${system}/configmaps`;
  const write = (text: string) =>
    drill.cluster.ok('PATCH', `${maps}/kura-policy`, {
      body: { data: { 'policy.yaml': text } },
      headers: { 'content-type': 'application/merge-patch+json' },
    });
  const opened = parse(original) as { rules: object[]; tests: object[] };
  opened.rules.push({ name: 'shared', subjects: [{ namespaces: ['vision'] }], verbs: ['GET'], keys: ['shared/'] });
  const asked = (): Promise<number[]> => Promise.all(Array.from({ length: 16 }, () => statusOf('shared/x', token)));
  t.deepEqual([...new Set(await asked())], [403]);

  const openedAt = performance.now();
  await write(stringify(opened));
  await waitFor('every Envoy lets it in', async () => (await asked()).every((status) => status === 404));
  t.log(`what a new rule allows is let in after ${secondsSince(openedAt)}`);

  await write('apiVersion: kura/v1\nkind: AccessPolicy\nrulez: []\n');
  await waitFor('an Event says so', async () => {
    const { items } = await drill.cluster.ok('GET', `/api/v1/namespaces/${system}/events`);
    return items.some(
      ({ reason, message }: { reason: string; message: string }) => reason === 'PolicyRejected' && message.includes('rulez'),
    );
  });
  t.deepEqual([...new Set(await asked())], [404]);
  const rejected = await Promise.all(authzMetrics().map((url) => readMetric(url, 'kura_authz_policy_rejected')));
  t.deepEqual(rejected, [1, 1]);

  await drill.cluster.ok('DELETE', `${maps}/kura-policy`);
  await waitFor('every authz has seen it', async () => {
    const logs = await Promise.all(drill.kubelet.logs('kura-envoy', 'authz'));
    return logs.every((log) => log.includes('the policy was deleted'));
  });
  t.deepEqual([...new Set(await asked())], [404]);

  const restoredAt = performance.now();
  await drill.cluster.ok('POST', maps, { body: { metadata: { name: 'kura-policy' }, data: { 'policy.yaml': original } } });
  await waitFor('every Envoy refuses it', async () => (await asked()).every((status) => status === 403));
  const seconds = (performance.now() - restoredAt) / 1000;
  t.log(`what it no longer allows is refused after ${seconds.toFixed(1)} s`);
  t.true(seconds < 1 + grantSeconds + slackSeconds);
});
