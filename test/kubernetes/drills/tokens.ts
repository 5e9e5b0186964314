import type { V1ClusterRole, V1Pod } from '@kubernetes/client-node';
import test from 'ava';
import { readMetric } from '../../support/metrics.ts';
import { waitFor } from '../../support/wait.ts';
import { createServiceClient } from '../support/client.ts';
import { type Drill, secondsSince } from '../support/drill.ts';

/** `KURA_AUTHZ_GRANT` */
export const grantSeconds = 5;
/** For the test's own asking, on a machine that is shared. */
export const slackSeconds = 0.5;
const rolePath = '/apis/rbac.authorization.k8s.io/v1/clusterroles/kura-authz';

/** Tokens whose Pod is deleted. */
export function tokenDrills(opened: () => Drill): void {
  test.serial('the token of a Pod that is deleted ends within 1 s and the time of a grant', async (t) => {
    const drill = opened();
    const { pod, token } = await drill.workload();
    for (const address of drill.addresses()) t.is(await statusAt(address, token), 404);
    const startedAt = performance.now();
    await deleteByForce(drill, pod);
    const seconds = await secondsUntilRefused(drill, token, startedAt);
    t.log(`let in for the last time ${seconds.toFixed(1)} s after the Pod was deleted`);
    t.true(seconds < 1 + grantSeconds + slackSeconds);
  });

  test.serial(
    'with the watch on Pods broken it ends within 10 s and the time of a grant, at an Envoy too that sees it then for the first time',
    async (t) => {
      const drill = opened();
      const { pod, token } = await drill.workload();
      const role = (await drill.cluster.ok('GET', rolePath)) as V1ClusterRole;
      const rules = (role.rules ?? []).map((rule) => ({ ...rule, resources: rule.resources?.filter((name) => name !== 'pods') ?? [] }));
      await putRole(drill, { ...role, rules });
      try {
        // A watch that is open is not ended by what its owner may no longer do.
        await drill.cluster.source.restart();
        await waitFor('no authz watches the Pods', () => areWatched(drill, 0));
        const [first, second] = drill.addresses() as [string, string];
        await waitFor('the API answers', async () => (await statusAt(first, token)) === 404);
        const startedAt = performance.now();
        await deleteByForce(drill, pod);
        // The API itself remembers a yes for 10 s.
        await waitFor('the first result is nearly over', () => performance.now() - startedAt > 9_000);
        const late = await statusAt(second, token);
        const seconds = await secondsUntilRefused(drill, token, startedAt);
        t.log(`let in for the last time ${seconds.toFixed(1)} s after the Pod was deleted; ${late} at the second Envoy after 9 s`);
        t.true(seconds < 10 + grantSeconds + slackSeconds);
      } finally {
        await putRole(drill, role);
      }
      const startedAt = performance.now();
      await waitFor('every authz watches the Pods again', () => areWatched(drill, 1));
      t.log(`watched again ${secondsSince(startedAt)} after the right was back`);
    },
  );
}

async function putRole(drill: Drill, { kind, metadata, rules }: V1ClusterRole): Promise<void> {
  await drill.cluster.ok('PUT', rolePath, { body: { kind, metadata: { name: metadata?.name }, rules } });
}

/** Whether every authz sees the Pods (1) or none does (0). */
export async function areWatched(drill: Drill, expected: 0 | 1): Promise<boolean> {
  const pages = drill.addresses().map((address) => `http://${address}:9903/metrics`);
  const healthy = await Promise.all(pages.map((page) => readMetric(page, 'kura_authz_pod_watch_healthy')));
  return healthy.every((each) => each === expected);
}

async function deleteByForce(drill: Drill, { metadata }: V1Pod): Promise<void> {
  await drill.cluster.ok('DELETE', `/api/v1/namespaces/${metadata?.namespace}/pods/${metadata?.name}?gracePeriodSeconds=0`);
}

/** What one Envoy answers about an object that is not there. */
async function statusAt(address: string, token: string): Promise<number> {
  const client = createServiceClient(() => [address]);
  try {
    return (await client.send('GET', 'vision/nothing', { token })).status;
  } finally {
    client.close();
  }
}

/** Asks every Envoy until all have refused the token for a second; how long after `startedAt` it was let in for the last time, in seconds. */
async function secondsUntilRefused(drill: Drill, token: string, startedAt: number): Promise<number> {
  let lastLetIn = 0;
  let refusedSince: number | undefined;
  await waitFor(
    'the token is refused',
    async () => {
      const statuses = await Promise.all(drill.addresses().map((address) => statusAt(address, token)));
      const at = performance.now();
      if (statuses.every((status) => status === 401)) refusedSince ??= at;
      else {
        lastLetIn = at;
        refusedSince = undefined;
      }
      return refusedSince !== undefined && at - refusedSince > 1_000;
    },
    { everyMs: 50 },
  );
  return (lastLetIn - startedAt) / 1000;
}
