import test from 'ava';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { type Drill, secondsSince } from '../support/drill.ts';

/** The liveness probe of authz needs 60 s, and its end 10 s. */
const maxRestartMs = 150_000;
/** What docs/operate.md promises. */
const maxMistakenDrainMs = 30_000;

/** Hooks that run although the Pod does not end. */
export function drainDrills(opened: () => Drill): void {
  const envoyPod = () => {
    const drill = opened();
    const runner = drill.kubelet.runner(drill.podsOf('kura-envoy')[0]?.metadata?.name as string);
    const isEnvoyReady = async () => (await call(`http://${runner.sandbox.address}:9902`, { path: '/readyz' })).status === 200;
    return { drill, runner, isEnvoyReady };
  };

  test.serial('an authz that hangs is restarted by its probe, and its Envoy is neither drained nor restarted', async (t) => {
    t.timeout(240_000);
    const { drill, runner, isEnvoyReady } = envoyPod();
    const envoy = runner.container('envoy').pid;
    const authz = runner.container('authz');
    const startedAt = performance.now();
    process.kill(authz.pid, 'SIGSTOP');
    await waitFor('authz is restarted', () => runner.container('authz') !== authz, { withinMs: maxRestartMs });
    t.log(`authz is restarted ${secondsSince(startedAt)} after it began to hang`);
    await waitFor('the Pod is ready', () => runner.isReady);
    t.log(`the Pod is ready again after ${secondsSince(startedAt)}`);
    t.true(await isEnvoyReady());
    t.is(runner.container('envoy').pid, envoy);
    await drill.settled();
  });

  test.serial('an Envoy that was drained although its Pod does not end is restarted within 30 s', async (t) => {
    t.timeout(180_000);
    const { drill, runner, isEnvoyReady } = envoyPod();
    const envoy = runner.container('envoy');
    const startedAt = performance.now();
    // Without the URL of authz, the program asks nobody.
    t.is(await runner.container('authz').exec(['node', 'services/envoy-drain/main.ts', 'http://127.0.0.1:9901', '1']), 0);
    t.false(await isEnvoyReady());
    await waitFor('Envoy has ended', () => envoy.hasEnded);
    const endedMs = performance.now() - startedAt;
    await waitFor('the Pod is ready', () => runner.isReady && runner.container('envoy') !== envoy);
    t.log(`Envoy has ended after ${(endedMs / 1000).toFixed(1)} s; its Pod is ready again after ${secondsSince(startedAt)}`);
    t.true(endedMs < maxMistakenDrainMs);
    await drill.settled();
  });
}
