import test from 'ava';
import { waitFor } from '../../support/wait.ts';
import { type Drill, secondsSince, system } from '../support/drill.ts';

/** What docs/operate.md promises. */
const maxMistakenDrainMs = 30_000;
/** The preStop hook of Envoy sleeps for 65 s. */
const maxEndMs = 100_000;

/** A crowd of drains. */
export function brokenEnvoyDrills(opened: () => Drill): void {
  test.serial('two Envoys end while a third one is drained by mistake: no request fails, and the third one is restarted', async (t) => {
    t.timeout(240_000);
    const drill = opened();
    const [broken, ...others] = drill.podsOf('kura-envoy').map(({ metadata }) => metadata?.name as string) as [string, ...string[]];
    const runner = drill.kubelet.runner(broken);
    const envoy = runner.container('envoy');
    const leaving = others.slice(0, 2);
    const load = drill.load(t);
    await waitFor('traffic flows', () => load.counts.hits > 200);
    const startedAt = performance.now();
    await Promise.all([
      drill.kubectl.ok('-n', system, 'delete', 'pod', ...leaving, '--wait=false'),
      // Without the URL of authz, the program does not ask whether the Pod ends.
      runner.container('authz').exec(['node', 'services/envoy-drain/main.ts', 'http://127.0.0.1:9901', '60']),
      (async () => {
        await waitFor('Envoy has ended', () => envoy.hasEnded);
        const endedMs = performance.now() - startedAt;
        t.true(endedMs < maxMistakenDrainMs);
        await waitFor('the Pod is ready', () => runner.isReady && runner.container('envoy') !== envoy);
        t.log(`the third Envoy ends after ${(endedMs / 1000).toFixed(1)} s, and its Pod is ready after ${secondsSince(startedAt)}`);
      })(),
    ]);
    const isGone = (name: string): boolean => !drill.podsOf('kura-envoy').some(({ metadata }) => metadata?.name === name);
    await waitFor('the two Pods are gone', () => leaving.every(isGone), { withinMs: maxEndMs });
    t.log(`the two Pods are gone after ${secondsSince(startedAt)}; ${await load.stop()}`);
    t.deepEqual(load.failures, []);
    await drill.settled();
  });
}
