import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { call } from '../../support/http.ts';
import { readMetric } from '../../support/metrics.ts';
import { waitFor } from '../../support/wait.ts';
import { statusesOf } from '../support/client.ts';
import { type Drill, secondsSince, system } from '../support/drill.ts';
import type { PodRunner } from '../support/pod-runner.ts';
import type { Prometheus } from '../support/prometheus.ts';

const run = promisify(execFile);
/** What docs/operate.md promises, and for the test's own asking on a machine that is shared. */
const maxReadyMs = 2_000;
const slackMs = 500;

/** Parts that start while what they need is away. */
export function restartDrills(opened: () => Drill, prometheus: () => Prometheus | undefined): void {
  const runnersOf = (part: string): PodRunner[] => {
    const { kubelet, podsOf } = opened();
    return podsOf(part).map(({ metadata }) => kubelet.runner(metadata?.name as string));
  };
  /** Kills the container in each Pod; resolves when each has another process. */
  const restart = async (part: string, container: string): Promise<void> => {
    const former = runnersOf(part).map((runner) => ({ runner, process: runner.container(container) }));
    for (const { process: each } of former) process.kill(each.pid, 'SIGKILL');
    await waitFor(`${container} has other processes`, () => former.every((each) => each.runner.container(container) !== each.process));
  };
  const areReady = async (part: string, port: number): Promise<boolean> =>
    (await Promise.all(runnersOf(part).map(({ sandbox }) => isReady(sandbox.address, port)))).every(Boolean);

  test.serial('eds, Envoys and authz restart while the API is stopped, and serve what they have kept', async (t) => {
    t.timeout(240_000);
    const drill = opened();
    const metrics = (part: string, port: number, name: string): Promise<number[]> =>
      Promise.all(runnersOf(part).map(({ sandbox }) => readMetric(`http://${sandbox.address}:${port}/metrics`, name)));
    for (const part of ['controllers', 'apiserver'] as const) await drill.plane.signal(part, 'SIGKILL');
    await Promise.all([restart('kura-eds', 'eds'), restart('kura-envoy', 'envoy')]);
    await waitFor('every eds serves its kept assignment', async () =>
      (await metrics('kura-eds', 9904, 'kura_eds_assignment_stale')).every((stale) => stale === 1),
    );
    await waitFor('every Envoy is ready', () => areReady('kura-envoy', 9902));
    await everyKeyIsRead(t, drill);

    await restart('kura-envoy', 'authz');
    await waitFor('every authz has its kept policy', () => areReady('kura-envoy', 9903));
    // authz cannot identify the token, once the grants of Envoy have ended.
    await waitFor('the token is unknown', async () => {
      const { status, body } = await drill.client.send('GET', drill.keys[0] as string, { token: drill.token });
      return status === 503 && /identity-unavailable/.test(body);
    });

    await drill.plane.start('apiserver');
    await drill.plane.start('controllers');
    const backAt = performance.now();
    await waitFor(
      'tokens are known',
      async () => (await drill.client.send('GET', 'vision/nothing', { token: drill.token })).status === 404,
    );
    t.log(`a token is accepted ${secondsSince(backAt)} after the API is back`);
    await everyKeyIsRead(t, drill);
    await waitFor('every eds has listed the shards itself', async () =>
      (await metrics('kura-eds', 9904, 'kura_eds_assignment_stale')).every((stale) => stale === 0),
    );
    t.log(`every eds has listed the shards itself after ${secondsSince(backAt)}`);
    await drill.settled();
  });

  test.serial('without eds the Envoys serve, and those that start then are ready within 2 s of its return', async (t) => {
    t.timeout(240_000);
    const drill = opened();
    await drill.kubectl.ok('-n', system, 'scale', 'deployment/kura-eds', '--replicas=0');
    await waitFor('no eds is listed', () => drill.kubelet.addresses('kura-eds').length === 0);
    await waitFor('no eds runs', () => drill.podsOf('kura-eds').length === 0);
    const [serving, ...starting] = runnersOf('kura-envoy') as [PodRunner, ...PodRunner[]];
    const former = starting.map((runner) => runner.container('envoy'));
    for (const { pid } of former) process.kill(pid, 'SIGKILL');
    // With back-off at its longest: that is when it counts.
    await waitFor('they have asked for eds again and again', async () => {
      const attempts = starting.map((runner) => stat(runner, 'cluster.eds.update_attempt'));
      return (await Promise.all(attempts)).every((count) => count > 3);
    });
    await prometheus()?.alert('KuraEdsDown', true);
    t.true(await isReady(serving.sandbox.address, 9902));
    await everyKeyIsRead(t, drill);
    for (const { sandbox } of starting) t.false(await isReady(sandbox.address, 9902));

    await drill.kubectl.ok('-n', system, 'scale', 'deployment/kura-eds', '--replicas=2');
    await waitFor('an eds is back', () => drill.kubelet.addresses('kura-eds').length > 0, { everyMs: 10 });
    const backAt = performance.now();
    const tookMs = await Promise.all(
      starting.map(async ({ sandbox }) => {
        await waitFor('Envoy is ready', () => isReady(sandbox.address, 9902), { everyMs: 20 });
        return performance.now() - backAt;
      }),
    );
    t.log(`ready ${tookMs.map((each) => (each / 1000).toFixed(1)).join(', ')} s after the first eds is back`);
    t.true(Math.max(...tookMs) < maxReadyMs + slackMs);
    await prometheus()?.alert('KuraEdsDown', false);
    await drill.settled();
  });
}

async function everyKeyIsRead(t: ExecutionContext, { client, keys, token }: Drill): Promise<void> {
  t.deepEqual(await statusesOf(client, 'GET', keys, token), [200]);
}

async function isReady(address: string, port: number): Promise<boolean> {
  return await call(`http://${address}:${port}`, { path: '/readyz' }).then(
    ({ status }) => status === 200,
    () => false,
  );
}

/** Of the Envoy of a Pod, whose admin interface listens on the loopback of the Pod. */
async function stat({ sandbox }: PodRunner, name: string): Promise<number> {
  const program = `fetch('http://127.0.0.1:9901/stats?filter=^${name}$').then((response) => response.text()).then(console.log)`;
  const { stdout } = await run('nsenter', [`--net=${sandbox.namespace}`, '--', process.execPath, '-e', program]);
  return Number(/: (\d+)/.exec(stdout)?.[1]);
}
