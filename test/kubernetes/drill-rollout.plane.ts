/** Drills on a real control plane: a new version of every part under load, a new credential, and parts that die. */
import anyTest, { type TestFn } from 'ava';
import { waitFor } from '../support/wait.ts';
import { createServiceClient, type ServiceClient } from './support/client.ts';
import { type Drill, secondsSince, startDrill, system } from './support/drill.ts';

const test = anyTest as TestFn;
const keys = Array.from({ length: 200 }, (_, index) => `vision/rollout/${index}`);
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

function podsOf(part: string): string[] {
  return drill.kubelet
    .pods()
    .filter(({ metadata }) => metadata?.labels?.['app.kubernetes.io/name'] === part)
    .map(({ metadata }) => metadata?.name as string);
}

test.serial('a rolling update of shards, Envoys with authz, and eds at once fails no request, and every key is where it was', async (t) => {
  t.timeout(240_000);
  const before = await waitFor('the Envoys agree', () => drill.placement(token, keys));
  const former = new Set(drill.kubelet.pods().map(({ metadata }) => metadata?.uid));
  const load = drill.load(t, { token, keys });
  const startedAt = performance.now();
  await drill.kubectl.ok('-n', system, 'rollout', 'restart', 'statefulset/kura-cache', 'deployment/kura-envoy', 'deployment/kura-eds');
  await drill.settled();
  t.log(`every part is new after ${secondsSince(startedAt)}`);
  await waitFor('the old Envoys have drained', () => !drill.kubelet.pods().some(({ metadata }) => former.has(metadata?.uid)), {
    withinMs: 100_000,
  });
  t.log(`the last old Pod is gone after ${secondsSince(startedAt)}`);
  t.deepEqual(await waitFor('the Envoys agree', () => drill.placement(token, keys)), before);
  t.log(await load.stop());
  t.deepEqual(load.failures, []);
});

test.serial('the credential of the shards is replaced in three steps without a refusal', async (t) => {
  const read = async (key: string): Promise<string> => {
    const { data } = await drill.kubectl.json<{ data: Record<string, string> }>('-n', system, 'get', 'secret', 'kura-credential');
    return Buffer.from(data[key] as string, 'base64').toString();
  };
  const old = await read('envoy');
  const fresh = 'f'.repeat(64);
  const load = drill.load(t, { token, keys });
  const steps = [{ shard: `${fresh}\n${old}` }, { envoy: fresh }, { shard: fresh }];
  for (const step of steps) {
    await drill.kubectl.ok('-n', system, 'patch', 'secret', 'kura-credential', '-p', JSON.stringify({ stringData: step }));
    await drill.kubelet.refreshVolumes();
    const { hits } = load.counts;
    // Both read their files again within two seconds of a change.
    const changedAt = performance.now();
    await waitFor('traffic went on for three seconds', () => load.counts.hits > hits + 100 && performance.now() - changedAt > 3_000);
  }
  t.log(await load.stop());
  t.deepEqual(load.failures, []);
  const refused = await fetch(`http://${drill.kubelet.runner('kura-cache-0').sandbox.address}:7000/objects/x`, {
    headers: { 'x-kura-credential': old },
  });
  t.is(refused.status, 401);
});

for (const { part, container, mayFail } of [
  { part: 'kura-cache', container: 'cache', mayFail: /^after .*, PUT .*: 503 .*shard-unavailable/ },
  { part: 'kura-eds', container: 'eds', mayFail: undefined },
  { part: 'kura-envoy', container: 'authz', mayFail: /: 503 .*authorization-unavailable/ },
  { part: 'kura-envoy', container: 'envoy', mayFail: /ECONNRE|socket hang up|ECONNREFUSED|EPIPE/ },
] as const) {
  test.serial(
    `a container ${container} that is killed is back, and meanwhile ${mayFail === undefined ? 'nothing fails' : 'only its own requests fail'}`,
    async (t) => {
      const pod = podsOf(part)[0] as string;
      const load = drill.load(t, { token, keys });
      await waitFor('traffic flows', () => load.counts.hits > 100);
      const runner = drill.kubelet.runner(pod);
      const { pid } = runner.container(container);
      const startedAt = performance.now();
      process.kill(pid, 'SIGKILL');
      await waitFor('another process', () => runner.container(container).pid !== pid);
      await waitFor('it is not ready', () => !runner.isReady);
      await waitFor('it is ready again', () => runner.isReady);
      await drill.settled();
      t.log(`${container} is back after ${secondsSince(startedAt)}`);
      const { hits } = load.counts;
      await waitFor('traffic flows', () => load.counts.hits > hits + 100);
      t.log(await load.stop());
      t.deepEqual(
        load.failures.filter((failure) => mayFail === undefined || !mayFail.test(failure)),
        [],
      );
    },
  );
}
