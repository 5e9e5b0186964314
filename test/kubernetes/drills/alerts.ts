import test from 'ava';
import { waitFor } from '../../support/wait.ts';
import { type Drill, system } from '../support/drill.ts';
import type { Prometheus } from '../support/prometheus.ts';

/** A total outage of each part fires the alert that names it. The drills of eds are in restart-without-help.ts. */
export function alertDrills(opened: () => Drill, prometheus: () => Prometheus | undefined): void {
  const deleteByForce = async (part: string): Promise<void> => {
    await opened().kubectl.ok('-n', system, 'delete', 'pod', '-l', `app.kubernetes.io/name=${part}`, '--force', '--grace-period=0');
  };

  test.serial('KuraNoAuthz fires while every authz hangs', async (t) => {
    const [drill, alerts] = [opened(), prometheus()];
    t.pass();
    if (alerts === undefined) return;
    await alerts.alert('KuraNoAuthz', false);
    const runners = drill.podsOf('kura-envoy').map(({ metadata }) => drill.kubelet.runner(metadata?.name as string));
    for (const runner of runners) process.kill(runner.container('authz').pid, 'SIGSTOP');
    try {
      await alerts.alert('KuraNoAuthz', true);
    } finally {
      for (const runner of runners) process.kill(runner.container('authz').pid, 'SIGCONT');
    }
    await alerts.alert('KuraNoAuthz', false);
    await drill.settled();
  });

  test.serial('KuraNoEnvoy fires while there is no Pod with an Envoy', async (t) => {
    const [drill, alerts] = [opened(), prometheus()];
    t.pass();
    if (alerts === undefined) return;
    await alerts.alert('KuraNoEnvoy', false);
    const count = drill.podsOf('kura-envoy').length;
    const scale = (replicas: number) => drill.kubectl.ok('-n', system, 'scale', 'deployment/kura-envoy', `--replicas=${replicas}`);
    await scale(0);
    await deleteByForce('kura-envoy');
    await alerts.alert('KuraNoEnvoy', true);
    await scale(count);
    await alerts.alert('KuraNoEnvoy', false);
    await drill.settled();
  });

  test.serial('KuraNoShards and KuraNoHealthyShards fire while every shard is Pending', async (t) => {
    const [drill, alerts] = [opened(), prometheus()];
    t.pass();
    if (alerts === undefined) return;
    // KuraCollapse may fire too: on a busy machine the shards vanish one after another, and that is no collapse.
    const names = ['KuraNoShards', 'KuraNoHealthyShards'];
    for (const name of names) await alerts.alert(name, false);
    for (const { metadata } of drill.podsOf('kura-cache')) drill.kubelet.keepPending(metadata?.name as string);
    await deleteByForce('kura-cache');
    await waitFor('every shard is Pending', () => {
      const pods = drill.podsOf('kura-cache');
      return pods.length === 4 && pods.every(({ spec }) => spec?.nodeName === undefined);
    });
    for (const name of names) await alerts.alert(name, true);
  });
}
