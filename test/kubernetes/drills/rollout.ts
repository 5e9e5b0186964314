import test from 'ava';
import { callerHeaders } from '../../support/caller.ts';
import { waitFor } from '../../support/wait.ts';
import { moved } from '../support/client.ts';
import { type Drill, secondsSince, system } from '../support/drill.ts';

/** A container of a part, and what a request may meet while it is away; undefined: nothing. */
const parts = [
  { part: 'kura-cache', container: 'cache', meets: /PUT .*: 503 .*shard-unavailable/ },
  { part: 'kura-eds', container: 'eds', meets: undefined },
  { part: 'kura-envoy', container: 'authz', meets: /: 503 .*authorization-unavailable/ },
  { part: 'kura-envoy', container: 'envoy', meets: /ECONNRESET|ECONNREFUSED|socket hang up|EPIPE/ },
] as const;

/** A new version of every part under load, a new credential, and parts that die. */
export function rolloutDrills(opened: () => Drill): void {
  test.serial(
    'a rolling update of shards, Envoys with authz, and eds at once fails no request, and every key is where it was',
    async (t) => {
      t.timeout(240_000);
      const drill = opened();
      const before = await drill.placed('the Envoys agree', () => true);
      const former = new Set(drill.kubelet.pods().map(({ metadata }) => metadata?.uid));
      const load = drill.load(t);
      const startedAt = performance.now();
      await drill.kubectl.ok('-n', system, 'rollout', 'restart', 'statefulset/kura-cache', 'deployment/kura-envoy', 'deployment/kura-eds');
      await drill.settled();
      t.log(`every part is new after ${secondsSince(startedAt)}`);
      await waitFor('the old Envoys have drained', () => !drill.kubelet.pods().some(({ metadata }) => former.has(metadata?.uid)), {
        withinMs: 100_000,
      });
      t.log(`the last old Pod is gone after ${secondsSince(startedAt)}`);
      t.is(moved(before, await drill.placed('the Envoys agree', () => true)), 0);
      t.log(await load.stop());
      t.deepEqual(load.failures, []);
    },
  );

  test.serial('the credential of the shards is replaced in three steps without a refusal', async (t) => {
    const drill = opened();
    const { data } = await drill.kubectl.json<{ data: { keys: string } }>('-n', system, 'get', 'secret', 'kura-credential');
    const old = Buffer.from(data.keys, 'base64').toString();
    const fresh = old.split('').reverse().join('');
    const load = drill.load(t);
    for (const keys of [`${old}\n${fresh}`, `${fresh}\n${old}`, fresh]) {
      await drill.kubectl.ok('-n', system, 'patch', 'secret', 'kura-credential', '-p', JSON.stringify({ stringData: { keys } }));
      await drill.kubelet.refreshVolumes();
      const { hits } = load.counts;
      const changedAt = performance.now();
      // Shards and authz read their files again within two seconds of a change. A grant keeps the previous signature for 5 s.
      await waitFor('traffic went on', () => load.counts.hits > hits + 100 && performance.now() - changedAt > 8_000);
    }
    t.log(await load.stop());
    t.deepEqual(load.failures, []);
    const shard = `http://${drill.kubelet.runner('kura-cache-0').sandbox.address}:7000/objects/x`;
    const statusFor = async (credential: string): Promise<number> =>
      (await fetch(shard, { headers: { ...callerHeaders({ credential }) } })).status;
    t.deepEqual([await statusFor(old), await statusFor(fresh)], [401, 404]);
  });

  for (const { part, container, meets } of parts) {
    const fate = meets === undefined ? 'no request fails' : 'only requests that need it fail';
    test.serial(`a container ${container} that is killed is back within seconds, and meanwhile ${fate}`, async (t) => {
      const drill = opened();
      const load = drill.load(t);
      await waitFor('traffic flows', () => load.counts.hits > 100);
      const runner = drill.kubelet.runner(drill.podsOf(part)[0]?.metadata?.name as string);
      const { pid } = runner.container(container);
      const startedAt = performance.now();
      process.kill(pid, 'SIGKILL');
      await waitFor('it is not ready', () => !runner.isReady);
      await waitFor('it is ready again', () => runner.isReady);
      t.not(runner.container(container).pid, pid);
      t.log(`ready again after ${secondsSince(startedAt)}`);
      await drill.settled();
      const { hits } = load.counts;
      await waitFor('traffic flows', () => load.counts.hits > hits + 100);
      t.log(await load.stop());
      t.deepEqual(
        load.failures.filter((failure) => meets === undefined || !meets.test(failure)),
        [],
      );
    });
  }
}
