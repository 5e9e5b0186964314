/** eds as a process with the fake Kubernetes API: two clients that others wrote follow the life of a cluster. */
import test from 'ava';
import { type Service, temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { connectClient, decode, name, node, tableOf } from './support/client.ts';
import { type CachePod, startCluster } from './support/cluster.ts';
import { protocols, startEnvoy } from './support/envoy.ts';
import { followByGrpc } from './support/grpc-xds-client.ts';

const pod = (index: number, changes: Partial<CachePod> = {}): CachePod => ({
  name: `kura-cache-${index}`,
  address: `10.0.0.${index}`,
  ...changes,
});
const pods = (count: number): CachePod[] => Array.from({ length: count }, (_, index) => pod(index + 1));
const draining = { ready: false, serving: true, terminating: true };
const down = { ready: false, serving: false, terminating: false };

/** What each client has to end with. */
function expected(list: readonly CachePod[]): Record<string, string> {
  const health = ({ conditions }: CachePod): string =>
    conditions === undefined ? 'HEALTHY' : conditions.serving ? 'DRAINING' : 'UNHEALTHY';
  return Object.fromEntries(list.map((each) => [`${each.name}/shard-0`, `${each.address} ${health(each)}`]).sort());
}

for (const adsKind of ['GRPC', 'DELTA_GRPC'] as const) {
  test.serial(
    `Envoy (ADS by ${adsKind}) and gRPC's client follow the life of a cluster and have the right table after each step`,
    async (t) => {
      const cluster = await startCluster(t);
      await cluster.set(pods(4));
      const eds = await cluster.startEds({ KURA_EDS_COLLAPSE_HOLD: '500ms', KURA_EDS_UNHEALTHY: '1s', KURA_EDS_LOSS_DELAY: '0s' });
      const address = eds.listening.grpc as string;
      const envoy = await startEnvoy({ folder: await temporaryFolder(t), eds: [address], adsKind });
      t.teardown(() => envoy.stop());
      const grpc = followByGrpc(t, address);

      const settle = async (what: string, list: readonly CachePod[]): Promise<void> => {
        await cluster.set(list);
        const want = JSON.stringify(expected(list));
        await waitFor(what, async () => {
          for (const protocol of protocols) {
            const table = await envoy.table(protocol);
            if (JSON.stringify(Object.fromEntries(Object.entries(table).sort())) !== want)
              throw new Error(`${protocol}: ${JSON.stringify(table)}`);
          }
          const table = grpc.table();
          const keys = JSON.stringify(Object.entries(expected(list)).map(([key, value]) => [key, value.split(' ')[1]]));
          if (JSON.stringify(Object.entries(table ?? {}).sort()) !== keys) throw new Error(`gRPC: ${JSON.stringify(table)}`);
          return true;
        });
      };

      await settle('the first four', pods(4));
      await settle('grown to seven', pods(7));
      await settle('shrunk to three', pods(3));
      let rolling = pods(3);
      for (const index of [1, 2, 3]) {
        const others = rolling.filter((each) => each.name !== `kura-cache-${index}`);
        await settle(`${index} draining`, [...others, pod(index, { conditions: draining })]);
        await settle(`${index} gone`, others);
        rolling = [...others, pod(index, { address: `10.1.0.${index}` })];
        await settle(`${index} back with another address`, rolling);
      }
      await settle('one down', [...rolling.slice(1), { ...(rolling[0] as CachePod), conditions: down }]);
      await waitFor('the one down to be gone', async () => Object.keys(await envoy.table('eds')).length === 2);
      await settle('it is back', rolling);
      await settle('all gone', []);
      await settle('all back', pods(5));
      await settle(
        'renamed, all at once',
        pods(5).map((each) => ({ ...each, name: each.name.replace('cache', 'store'), address: each.address.replace('10.0', '10.7') })),
      );
      for (const protocol of ['eds', 'delta-eds', 'ads']) t.is(await envoy.stat(`cluster.${protocol}.update_rejected`), 0);
      t.deepEqual(grpc.faults, []);
    },
  );
}

test.serial('weights come from the Pod’s annotation, and the metrics port shows the true state', async (t) => {
  const cluster = await startCluster(t);
  await cluster.set([pod(1, { weight: 3 }), pod(2, { zone: 'b' })]);
  const eds = await cluster.startEds();
  const stream = connectClient(t, eds.listening.grpc as string).eds();
  stream.send({ node, resource_names: [name] });
  const answer = await stream.next();
  const assignment = decode(answer.resources?.[0]);
  const weights = assignment.endpoints?.map(({ locality, lb_endpoints }) => [
    locality?.zone,
    lb_endpoints?.[0]?.load_balancing_weight?.value,
  ]);
  t.deepEqual(weights, [
    ['a', 3],
    ['b', 1],
  ]);
  stream.send({ resource_names: [name], response_nonce: answer.nonce ?? '', error_detail: { message: 'I do not like it' } });
  const page = async (path: string): Promise<string> => (await fetch(`http://${eds.listening.metrics}${path}`)).text();
  await waitFor('the NACK on the page', async () => (await page('/debug/streams')).includes('I do not like it'));
  t.like(JSON.parse(await page('/debug/streams')), [{ node: 'envoy-1', zone: 'a', protocol: 'EDS, state of the world' }]);
  const metrics = await page('/metrics');
  t.regex(metrics, /kura_eds_endpoints\{zone="b",health="healthy"\} 1/);
  t.regex(metrics, /kura_eds_nacks_total 1\n/);
  t.regex(metrics, /kura_eds_streams 1\n/);
  t.regex(metrics, /kura_eds_kubernetes_contact_age_seconds \d/);
});

test.serial('without the Kubernetes API nothing changes, and later changes arrive when it is back', async (t) => {
  const cluster = await startCluster(t);
  await cluster.set(pods(2));
  const eds = await cluster.startEds();
  const stream = connectClient(t, eds.listening.grpc as string).eds();
  stream.send({ node, resource_names: [name] });
  const first = await stream.next();
  stream.send({ resource_names: [name], response_nonce: first.nonce ?? '', version_info: first.version_info ?? '' });
  cluster.api.child.kill('SIGSTOP');
  const late = connectClient(t, eds.listening.grpc as string).eds();
  late.send({ node, resource_names: [name] });
  t.is((await late.next()).version_info, first.version_info, 'also a new stream is served');
  const wait = cluster.set(pods(3));
  cluster.api.child.kill('SIGCONT');
  await wait;
  const second = await stream.next();
  t.is(second.nonce, '2');
  t.is(Object.keys(tableOf(decode(second.resources?.[0]))).length, 3);
});

test.serial('without a list eds is not ready and sends no response', async (t) => {
  const cluster = await startCluster(t);
  await cluster.set(pods(2));
  cluster.api.child.kill('SIGSTOP');
  const eds = await cluster.startEds();
  const ready = async (): Promise<number> => (await fetch(`http://${eds.listening.metrics}/readyz`)).status;
  t.is(await ready(), 503);
  const stream = connectClient(t, eds.listening.grpc as string).eds();
  stream.send({ node, resource_names: [name] });
  await waitFor('the stream', async () => (await (await fetch(`http://${eds.listening.metrics}/debug/streams`)).text()).includes(name));
  t.is(stream.waiting(), 0);
  cluster.api.child.kill('SIGCONT');
  await waitFor('readiness', async () => (await ready()) === 200);
  await waitFor('the response', () => stream.waiting() === 1);
});

test.serial('Envoy reconnects to another replica, which has the same version and resends nothing', async (t) => {
  const cluster = await startCluster(t);
  await cluster.set(pods(3));
  const [one, two] = [await cluster.startEds(), await cluster.startEds()];
  const addresses = [one.listening.grpc as string, two.listening.grpc as string];
  const envoy = await startEnvoy({ folder: await temporaryFolder(t), eds: addresses, follow: ['eds'] });
  t.teardown(() => envoy.stop());
  await waitFor('the table', async () => Object.keys(await envoy.table('eds')).length === 3);
  const streams = async ({ listening }: Service): Promise<{ types: Record<string, { sent: string | null; acknowledged: string }> }[]> =>
    JSON.parse(await (await fetch(`http://${listening.metrics}/debug/streams`)).text());
  const [first, second] = (await streams(one)).length === 1 ? [one, two] : [two, one];
  t.is(await first.stop(), 0);
  const [moved] = await waitFor('the move', async () => {
    const list = await streams(second);
    return list.length === 1 && Object.keys(list[0]?.types ?? {}).length === 1 && list;
  });
  const [type] = Object.values(moved?.types ?? {});
  t.is(type?.sent, null);
  t.regex(type?.acknowledged ?? '', /^[0-9a-f]{16}$/);
  t.is(Object.keys(await envoy.table('eds')).length, 3);
  await cluster.set(pods(4));
  await waitFor('changes to flow', async () => Object.keys(await envoy.table('eds')).length === 4);
});
