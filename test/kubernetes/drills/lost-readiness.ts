import test from 'ava';
import { readMetric } from '../../support/metrics.ts';
import { waitFor } from '../../support/wait.ts';
import { type Drill, secondsSince } from '../support/drill.ts';
import type { Prometheus } from '../support/prometheus.ts';

/** Kubelets that lose the API while their Pods run. */
export function lostReadinessDrills(opened: () => Drill, prometheus: () => Prometheus | undefined): void {
  test.serial('every shard is NotReady and alive: every object is served, also while the containers of eds restart', async (t) => {
    const drill = opened();
    const shards = drill.podsOf('kura-cache');
    const runners = shards.map(({ metadata }) => drill.kubelet.runner(metadata?.name as string));
    const sumOfEds = async (metric: string, labels?: string): Promise<number[]> =>
      Promise.all(drill.podsOf('kura-eds').map(({ status }) => readMetric(`http://${status?.podIP}:9904/metrics`, metric, labels)));
    const areAll = async (expected: number, metric: string, labels?: string): Promise<boolean> =>
      (await sumOfEds(metric, labels)).every((value) => value === expected);
    const load = drill.load(t);
    const readAll = async (): Promise<void> => {
      const goal = load.counts.hits + 2 * drill.keys.length;
      await waitFor('every key is read again', () => load.counts.hits > goal);
    };
    await readAll();
    const startedAt = performance.now();
    for (const runner of runners) runner.setSilent(true);
    await drill.markNotReady(shards);
    await waitFor('every eds holds four shards', () => areAll(4, 'kura_eds_endpoints_held'));
    t.log(`held ${secondsSince(startedAt)} after the first Pod was NotReady`);
    t.true(await areAll(1, 'kura_eds_collapses_total'));
    await prometheus()?.alert('KuraCollapse', true);
    await readAll();

    const containers = drill.podsOf('kura-eds').map(({ metadata }) => drill.kubelet.runner(metadata?.name as string));
    for (const runner of containers) process.kill(runner.container('eds').pid, 'SIGKILL');
    await waitFor('every eds has ended', () => containers.every(({ isReady }) => !isReady));
    await waitFor('every new process holds them', () => areAll(4, 'kura_eds_endpoints_held'));
    await readAll();
    t.true(await areAll(4, 'kura_eds_endpoints', 'health="healthy"'));

    const backAt = performance.now();
    for (const runner of runners) runner.setSilent(false);
    await waitFor('the hold ends', () => areAll(0, 'kura_eds_endpoints_held'));
    t.log(`the hold ends ${secondsSince(backAt)} after the kubelets are back`);
    await prometheus()?.alert('KuraCollapse', false);
    await readAll();
    t.log(await load.stop());
    t.deepEqual(load.failures, []);
    t.is(load.counts.misses, 0);
    await drill.settled();
  });
}
