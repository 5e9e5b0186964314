/** The component authz-deployment: authz behind a Service instead of beside each Envoy. */
import anyTest, { type TestFn } from 'ava';
import { waitFor } from '../support/wait.ts';
import { type Drill, secondsSince, startDrill, system } from './support/drill.ts';

const test = anyTest as TestFn;
let drill: Drill;
test.before(async (t) => {
  t.timeout(180_000);
  drill = await startDrill({ components: ['authz-deployment'] });
});
test.after.always(() => drill?.stop());

test.serial('it lets in and refuses as beside Envoy, and has the rights for it, which Envoy’s own account no longer has', async (t) => {
  const { client, keys, token } = drill;
  for (const key of keys) t.is((await client.send('PUT', key, { token, body: `of ${key}` })).status, 201);
  t.is((await client.send('GET', keys[0] as string, { token })).status, 200);
  t.is((await client.send('GET', 'nlp/x', { token })).status, 403);
  t.is((await client.send('GET', 'vision/x', { token: `${token}x` })).status, 401);
  const { stdout } = await drill.kubectl.run('auth', 'can-i', `--as=system:serviceaccount:${system}:kura-envoy`, 'list', 'pods', '-A');
  t.is(stdout.trim(), 'no');
});

test.serial('a rolling update of authz and Envoys fails no request', async (t) => {
  t.timeout(240_000);
  const former = new Set([...drill.podsOf('kura-authz'), ...drill.podsOf('kura-envoy')].map(({ metadata }) => metadata?.uid));
  const load = drill.load(t);
  const startedAt = performance.now();
  await drill.kubectl.ok('-n', system, 'rollout', 'restart', 'deployment/kura-authz', 'deployment/kura-envoy');
  await drill.settled();
  await waitFor('the old Pods are gone', () => !drill.kubelet.pods().some(({ metadata }) => former.has(metadata?.uid)), {
    withinMs: 100_000,
  });
  t.log(`the last old Pod is gone after ${secondsSince(startedAt)}; ${await load.stop()}`);
  t.deepEqual(load.failures, []);
});

test.serial('one replica that is killed costs the checks that were under way at it, and no more', async (t) => {
  const load = drill.load(t);
  await waitFor('traffic flows', () => load.counts.hits > 100);
  const runner = drill.kubelet.runner(drill.podsOf('kura-authz')[0]?.metadata?.name as string);
  process.kill(runner.container('authz').pid, 'SIGKILL');
  await waitFor('it is not ready', () => !runner.isReady);
  await waitFor('it is ready again', () => runner.isReady);
  t.log(await load.stop());
  t.deepEqual(
    load.failures.filter((failure) => !/503 .*authorization-unavailable/.test(failure)),
    [],
  );
  t.true(load.failures.length <= 10, load.failures.join('\n'));
});
