/** A rolling restart of all shards under load, through the real Envoy. */
import { DiscoveryV1Api } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({ environment: { KURA_CACHE_DRAIN: '3s' } });
});
test.after.always(() => system?.stop());

const as = 'vision/trainer';
const keys = Array.from({ length: 200 }, (_, index) => `/objects/vision/rolling/${index}`);
/** At once, each with a connection of its own; one request in ten is a PUT. */
const workers = 32;

/** As Kubernetes does with a Pod that is to end: its endpoint is terminating first, and Envoy's workers know before the shard stops accepting (KURA_CACHE_DRAIN). */
async function drain(pod: string): Promise<void> {
  const discovery = system.kubernetes.api(DiscoveryV1Api);
  const slice = await discovery.readNamespacedEndpointSlice({ namespace: 'kura-system', name: pod });
  for (const endpoint of slice.endpoints ?? []) endpoint.conditions = { ready: false, serving: true, terminating: true };
  await discovery.replaceNamespacedEndpointSlice({ namespace: 'kura-system', name: pod, body: slice });
  const { envoyAdminUrl } = await system.local();
  await waitFor(`Envoy to take ${pod} out of its table`, async () => {
    const { body } = await call(envoyAdminUrl, { path: '/clusters?format=json' });
    const clusters = JSON.parse(body.toString()) as Clusters;
    const hosts = clusters.cluster_statuses.find(({ name }) => name === 'kura-cache')?.host_statuses ?? [];
    return hosts.some(({ health_status }) => health_status.eds_health_status === 'DRAINING');
  });
}

interface Clusters {
  cluster_statuses: { name: string; host_statuses?: { health_status: { eds_health_status?: string } }[] }[];
}

test('a rolling restart of all shards under load costs no failed GET or PUT, only misses, and every shard has its keys again', async (t) => {
  for (const path of keys) t.is((await system.call({ as, method: 'PUT', path, body: `of ${path}` })).status, 201);
  const placement = async (): Promise<Map<string, string>> => {
    const shards = new Map<string, string>();
    for (const path of keys) {
      const { status, headers } = await system.call({ as, path });
      if (status === 200) shards.set(path, String(headers['x-kura-shard']));
    }
    return shards;
  };
  const before = await placement();
  t.is(before.size, keys.length);

  const stopping = new AbortController();
  const counts = { hit: 0, miss: 0, written: 0 };
  const failures: string[] = [];
  const work = async (first: number): Promise<void> => {
    for (let index = first; !stopping.signal.aborted; index++) {
      const path = keys[index % keys.length] as string;
      const isPut = index % 10 === 0;
      try {
        const { status, body, complete } = await system.call({ as, path, ...(isPut ? { method: 'PUT', body: `of ${path}` } : {}) });
        if (isPut && status === 201) counts.written += 1;
        else if (status === 200 && complete && body.toString() === `of ${path}`) counts.hit += 1;
        else if (!isPut && status === 404) counts.miss += 1;
        else failures.push(`${isPut ? 'PUT ' : ''}${path}: ${status}${complete ? '' : ', broken off'}: ${body}`);
      } catch (error) {
        failures.push(`${path}: ${(error as Error).message}`);
      }
    }
  };
  const load = Array.from({ length: workers }, (_, index) => work(index * 31));
  try {
    for (const { name } of (await system.local()).shards) {
      const pod = name.split('/')[0] as string;
      await drain(pod);
      const pid = await system.signal(pod, 'SIGTERM');
      await system.restarted(pod, pid);
      // The next one only when this one has its keys again, as a StatefulSet waits for readiness.
      const own = [...before].find(([, shard]) => shard === name)?.[0] as string;
      const hitsBefore = counts.hit;
      await waitFor(`${name} to serve its keys again`, async () => {
        const { status, headers } = await system.call({ as, path: own });
        return status === 200 && headers['x-kura-shard'] === name && counts.hit > hitsBefore;
      });
    }
  } finally {
    stopping.abort();
    await Promise.all(load);
  }
  t.log(`${counts.hit} hits, ${counts.miss} misses, ${counts.written} written`);
  t.deepEqual(failures, []);
  t.deepEqual(
    await waitFor('every key', async () => {
      const now = await placement();
      return now.size === keys.length && now;
    }),
    before,
  );
});
