import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { waitFor } from '../../support/wait.ts';
import { type Drill, type Placement, secondsSince, system } from '../support/drill.ts';
import { areWatched } from './tokens.ts';

const outageMs = 60_000;
const freezeMs = 10_000;
/** Each shows the API's answer of 403 for about 100 ms. */
const mostRestarts = 6;

function shareOfFirst(placement: Placement): number {
  return [...placement.values()].filter((shard) => shard === 'kura-cache-0/shard-0').length / placement.size;
}

/** A Kubernetes API that is away, hangs, or is not itself. */
export function apiDrills(opened: () => Drill): void {
  const statusOf = async (token: string): Promise<number> => (await opened().client.send('GET', 'vision/nothing', { token })).status;

  test.serial(
    'without the Kubernetes API for a minute known tokens go on, unknown ones get 503, and what changes arrives afterwards',
    async (t) => {
      t.timeout(180_000);
      const drill = opened();
      const { token: unknown } = await drill.workload();
      const load = drill.load(t);
      await waitFor('traffic flows', () => load.counts.hits > 400);
      await drill.plane.signal('apiserver', 'SIGKILL');
      const startedAt = performance.now();
      const answers = new Set<number>();
      while (performance.now() - startedAt < outageMs) {
        const askedAt = performance.now();
        answers.add(await statusOf(unknown));
        t.true(performance.now() - askedAt < 2_500);
        await delay(500);
      }
      t.deepEqual([...answers], [503]);
      await drill.plane.start('apiserver');
      const backAt = performance.now();
      await waitFor('the unknown token is known', async () => (await statusOf(unknown)) === 404);
      t.log(`an unknown token is let in ${secondsSince(backAt)} after the API is back`);
      await waitFor('every authz watches again', () => areWatched(drill, 1));
      t.log(`every authz watches the Pods again after ${secondsSince(backAt)}`);
      // Not a number of replicas: the controller manager waits for up to a minute by itself before it looks again.
      await drill.kubectl.ok('-n', system, 'annotate', 'pod', 'kura-cache-0', '--overwrite', 'kura/weight=3');
      await drill.placed('a shard of weight 3 has half of the keys', (placement) => shareOfFirst(placement) > 0.4);
      t.log(`a shard’s new weight is in force ${secondsSince(backAt)} after the API is back`);
      t.log(`${await load.stop()}, the minute without API included`);
      t.deepEqual(load.failures, []);
      await drill.kubectl.ok('-n', system, 'annotate', 'pod', 'kura-cache-0', '--overwrite', 'kura/weight=1');
      await drill.placed('it has a quarter again', (placement) => shareOfFirst(placement) < 0.35);
    },
  );

  test.serial('with etcd frozen known tokens go on, and one that the API has to look up gets 503: neither in nor 401', async (t) => {
    const drill = opened();
    const { pod, token: known } = await drill.workload();
    const { pod: gone, token: unsure } = await drill.workload();
    t.is(await statusOf(known), 404);
    // The API looks a Pod up in etcd that its own copies do not have.
    await drill.cluster.ok('DELETE', `/api/v1/namespaces/${gone.metadata?.namespace}/pods/${gone.metadata?.name}?gracePeriodSeconds=0`);
    const load = drill.load(t);
    await waitFor('traffic flows', () => load.counts.hits > 200);
    await drill.plane.signal('etcd', 'SIGSTOP');
    const startedAt = performance.now();
    const answers = new Set<number>();
    try {
      while (performance.now() - startedAt < freezeMs) {
        answers.add(await statusOf(unsure));
        t.is(await statusOf(known), 404, pod.metadata?.name);
        await delay(250);
      }
    } finally {
      await drill.plane.signal('etcd', 'SIGCONT');
    }
    const thawedAt = performance.now();
    t.deepEqual([...answers], [503]);
    await waitFor('the API says no', async () => (await statusOf(unsure)) === 401);
    t.log(`the token of a Pod that is gone gets its 401 ${secondsSince(thawedAt)} after etcd goes on`);
    t.log(await load.stop());
    t.deepEqual(load.failures, []);
  });

  test.serial('an API that answers 403 and worse just after its start makes no good token a bad one', async (t) => {
    t.timeout(120_000);
    const drill = opened();
    const own = (await drill.kubectl.ok('-n', system, 'create', 'token', 'kura-envoy')).trim();
    const tokens = await Promise.all(Array.from({ length: 50 * mostRestarts }, async () => (await drill.workload()).token));
    const [toApi, toKura] = [new Map<number, number>(), new Map<number, number>()];
    const count = (answers: Map<number, number>, status: number): void => void answers.set(status, (answers.get(status) ?? 0) + 1);
    const review = async (): Promise<number> => {
      const body = { spec: { token: 'x', audiences: ['kura'] } };
      const answer = drill.cluster.call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', { body, token: own });
      return await answer.then(
        ({ status }) => status,
        () => 0,
      );
    };
    t.is(await review(), 201);
    for (let restart = 0; restart < mostRestarts && !toApi.has(403); restart++) {
      await drill.plane.signal('apiserver', 'SIGKILL');
      const isOver = new AbortController();
      const probe = async (): Promise<void> => {
        for (; !isOver.signal.aborted; await delay(5)) count(toApi, await review());
      };
      const ask = async (): Promise<void> => {
        for (const token of tokens.slice(restart * 50, restart * 50 + 50)) {
          count(toKura, await statusOf(token));
          await delay(50);
        }
      };
      const asking = Promise.all([probe(), ask()]);
      await drill.plane.start('apiserver');
      await waitFor('the API knows its own', async () => (await review()) === 201);
      isOver.abort();
      await asking;
    }
    const told = (answers: Map<number, number>): string =>
      [...answers].map(([status, times]) => `${status || 'none'} ${times}×`).join(', ');
    t.log(`the API’s answers to our own calls: ${told(toApi)}; kura’s to tokens that it sees for the first time: ${told(toKura)}`);
    t.true(toApi.has(403), 'the API has not answered 403 this time');
    t.deepEqual(
      [...toKura.keys()].filter((status) => status !== 404 && status !== 503),
      [],
    );
    for (const token of tokens.slice(0, 20)) await waitFor('it is known', async () => (await statusOf(token)) === 404);
  });
}
