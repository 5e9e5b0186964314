/** Crowds of shards that fail together, through the real Envoy with the operators' bootstrap. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createAuthority } from '../../services/fake-kubernetes/certificates.ts';
import { writeCertificate } from '../support/certificates.ts';
import { readMetric } from '../support/metrics.ts';
import { type Service, temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { type CachePod, startCluster } from './support/cluster.ts';
import { FakeShard, startDataPath, startTlsDataPath } from './support/data-path.ts';

const down = { ready: false, serving: false, terminating: false };
const keys = Array.from({ length: 64 }, (_, index) => `vision/${index}`);

async function startShards(t: ExecutionContext, count: number): Promise<FakeShard[]> {
  const shards = Array.from({ length: count }, () => new FakeShard());
  t.teardown(async () => void (await Promise.all(shards.map((shard) => shard.stop()))));
  await Promise.all(shards.map((shard) => shard.start()));
  return shards;
}

/** The Pods of these shards; those for which `isUp` is false are not ready. */
function podsOf(shards: readonly FakeShard[], isUp: (index: number) => boolean = () => true): CachePod[] {
  return shards.map(({ port }, index) => ({
    name: `kura-cache-${index}`,
    address: '127.0.0.1',
    port,
    ...(isUp(index) ? {} : { conditions: down }),
  }));
}

const metric = (eds: Service, name: string, labels = ''): Promise<number> =>
  readMetric(`http://${eds.listening.metrics}/metrics`, name, labels);
const healthy = (eds: Service): Promise<number> => metric(eds, 'kura_eds_endpoints', 'health="healthy"');
const held = (eds: Service): Promise<number> => metric(eds, 'kura_eds_endpoints_held');

test.serial('16 shards that are alive and become NotReady lose no request, also while eds restarts with and without the API', async (t) => {
  const cluster = await startCluster(t);
  const shards = await startShards(t, 16);
  const stateFile = path.join(await temporaryFolder(t), 'assignment.json');
  await cluster.set(podsOf(shards));
  const first = await cluster.startEds({ KURA_EDS_STATE_FILE: stateFile });
  const sameAddress = { KURA_EDS_STATE_FILE: stateFile, KURA_EDS_LISTEN: first.listening.grpc as string };
  const { call } = await startDataPath(t, first);
  await waitFor('every key is stored', async () => {
    for (const key of keys) if ((await call('PUT', key)) !== 201) return false;
    for (const key of keys) if ((await call('GET', key)) !== 200) return false;
    return true;
  });
  const failures: string[] = [];
  let requests = 0;
  const stopping = new AbortController();
  t.teardown(() => stopping.abort());
  const reading = (async () => {
    while (!stopping.signal.aborted) {
      const key = keys[requests++ % keys.length] as string;
      const status = await call('GET', key).catch((error: Error) => error.message);
      if (status !== 200) failures.push(`${key}: ${status}`);
    }
  })();
  const readAll = async (): Promise<void> => {
    const goal = requests + 2 * keys.length;
    await waitFor('every key is read again', () => requests > goal);
  };

  await cluster.set(podsOf(shards, () => false));
  await waitFor('the collapse', async () => (await held(first)) === 16);
  await readAll();
  t.is(await healthy(first), 16);
  t.is(await metric(first, 'kura_eds_collapses_total'), 1);

  await first.stop('SIGKILL');
  const second = await cluster.startEds(sameAddress);
  await waitFor('the next process holds them', async () => (await held(second)) === 16);
  await readAll();

  await second.stop('SIGKILL');
  cluster.api.child.kill('SIGSTOP');
  const third = await cluster.startEds(sameAddress);
  await waitFor('the saved assignment', async () => (await metric(third, 'kura_eds_assignment_stale')) === 1);
  t.like(await (await fetch(`http://${third.listening.metrics}/debug/assignment`)).json(), { isStale: true });
  const fresh = await startDataPath(t, third);
  await waitFor('an Envoy that starts meanwhile serves', async () => (await fresh.call('GET', keys[0] as string)) === 200);
  await readAll();

  cluster.api.child.kill('SIGCONT');
  await waitFor('a list of its own', async () => (await metric(third, 'kura_eds_assignment_stale')) === 0);
  await waitFor('the collapse still holds', async () => (await held(third)) === 16);
  await cluster.set(podsOf(shards));
  await waitFor('the end of the collapse', async () => (await held(third)) === 0);
  await readAll();
  stopping.abort();
  await reading;
  t.deepEqual(failures, []);
});

test.serial('10 of 16 shards that die together cost 503 for at most 9 s, and a stranger at their address gets no request', async (t) => {
  const cluster = await startCluster(t);
  const shards = await startShards(t, 16);
  await cluster.set(podsOf(shards));
  const eds = await cluster.startEds();
  const { call } = await startDataPath(t, eds);
  await waitFor('every key is stored', async () => {
    for (const key of keys) if ((await call('PUT', key)) !== 201) return false;
    return true;
  });
  const dead = shards.slice(0, 10);
  const killedAt = performance.now();
  await Promise.all(dead.map((shard) => shard.stop()));
  let last503Ms = 0;
  let rounds = 0;
  const isQuiet = async (): Promise<boolean> => {
    let count = 0;
    for (const key of keys) {
      if ((await call('GET', key)) !== 503) continue;
      count += 1;
      last503Ms = performance.now() - killedAt;
    }
    return count === 0;
  };
  const marking = cluster.set(podsOf(shards, (index) => index >= 10));
  await waitFor('no 503 in ten rounds', async () => {
    rounds = (await isQuiet()) ? rounds + 1 : 0;
    return rounds === 10;
  });
  await marking;
  await waitFor('the collapse', async () => (await held(eds)) === 10);
  t.log(`the last 503 came after ${Math.round(last503Ms)} ms`);
  t.true(last503Ms < 9_000, `${last503Ms} ms`);

  for (const shard of dead) shard.requests = 0;
  await Promise.all(dead.map((shard) => shard.start({ isShard: false })));
  for (let round = 0; round < 20; round++) t.true(await isQuiet());
  t.deepEqual(
    dead.map(({ requests }) => requests),
    dead.map(() => 0),
  );
  await Promise.all(dead.map((shard) => shard.stop()));
  await Promise.all(dead.map((shard) => shard.start()));
  await waitFor('the shards get requests again', async () => (await isQuiet()) && dead.every(({ requests }) => requests > 0));
});

test.serial('after a full outage the first shards get no request until half of them serve', async (t) => {
  const cluster = await startCluster(t);
  const former = await startShards(t, 8);
  await cluster.set(podsOf(former));
  const eds = await cluster.startEds({ KURA_EDS_RETURN_WAIT: '10m' });
  const { call } = await startDataPath(t, eds);
  await Promise.all(former.map((shard) => shard.stop()));
  // A Node that restarts gives its Pods other addresses.
  const shards = await startShards(t, 8);
  await cluster.set(podsOf(shards, () => false));
  await waitFor('nothing serves', async () => (await healthy(eds)) === 0);
  for (const count of [1, 2, 3]) {
    await cluster.set(podsOf(shards, (index) => index < count));
    await waitFor(`${count} are listed`, async () => (await metric(eds, 'kura_eds_endpoints')) >= count);
    t.is(await healthy(eds), 0);
    for (const key of keys) t.is(await call('GET', key), 503);
  }
  await cluster.set(podsOf(shards, (index) => index < 4));
  await waitFor('four are healthy', async () => (await healthy(eds)) === 4);
  await waitFor('every key has a shard', async () =>
    (await Promise.all(keys.map((key) => call('GET', key)))).every((status) => status === 404),
  );
  t.true(shards.slice(0, 4).every(({ requests }) => requests > 0));
});

test.serial('without a saved assignment, an empty first list makes no eds ready', async (t) => {
  const cluster = await startCluster(t);
  const file = path.join(await temporaryFolder(t), 'assignment.json');
  await writeFile(file, '{"form":1,"service":"kura-cache","shards":[{"hashKey":"a"}]}');
  const eds = await cluster.startEds({ KURA_EDS_STATE_FILE: file });
  const ready = async (): Promise<string> => (await fetch(`http://${eds.listening.metrics}/readyz`)).text();
  await waitFor('the reason', async () => (await ready()).includes('the first list has too few healthy shards'));
  t.regex(eds.output(), /cannot use the saved assignment; starting without it/);
  await cluster.set(podsOf(await startShards(t, 2)));
  await waitFor('readiness', async () => (await healthy(eds)) === 2);
});

for (const hasTls of [false, true]) {
  test.serial(`Envoy moves from a replica without the API to a replica with it${hasTls ? ', by mutual TLS' : ''}`, async (t) => {
    const shards = await startShards(t, 2);
    const { ofEds, ofEnvoy } = await writeCertificates(t);
    const tls = hasTls ? { KURA_EDS_TLS_DIRECTORY: ofEds } : {};
    const sides = await Promise.all(
      [1, 2].map(async () => {
        const cluster = await startCluster(t);
        await cluster.set(podsOf(shards));
        return { cluster, eds: await cluster.startEds({ KURA_EDS_API_SILENCE: '5s', ...tls }) };
      }),
    );
    const [one, two] = sides as [(typeof sides)[number], (typeof sides)[number]];
    /** Changes a Pod and a slice, so that both watches of eds get something. */
    const touch = async ({ cluster }: typeof one): Promise<void> => {
      await cluster.set([...podsOf(shards), { name: 'kura-cache-9', address: '127.0.0.2', conditions: down }]);
      await cluster.set(podsOf(shards));
    };
    await Promise.all([touch(one), touch(two)]);
    const { stat } = await (hasTls ? startTlsDataPath(t, [one.eds, two.eds], ofEnvoy) : startDataPath(t, one.eds, two.eds));
    await waitFor('both replicas are healthy', async () => {
      await Promise.all([touch(one), touch(two)]);
      return (await stat('cluster.eds.membership_healthy')) === 2;
    });
    if (hasTls) t.true((await stat('cluster.eds.ssl.handshake')) > 0);
    const streams = ({ eds }: typeof one): Promise<number> => metric(eds, 'kura_eds_streams');
    const [lost, good] = (await streams(one)) === 1 ? [one, two] : [two, one];
    t.is(await streams(good), 0);
    lost.cluster.api.child.kill('SIGSTOP');
    await waitFor(
      'the stream at the other replica',
      async () => {
        await touch(good);
        return (await streams(good)) === 1 && (await streams(lost)) === 0 && (await stat('cluster.eds.membership_healthy')) === 1;
      },
      { everyMs: 1_000 },
    );
    lost.cluster.api.child.kill('SIGCONT');
  });
}

/** Folders with the certificates of eds and of Envoy, from one CA. */
async function writeCertificates(t: ExecutionContext): Promise<{ ofEds: string; ofEnvoy: string }> {
  const [folder, authority] = [await temporaryFolder(t), await createAuthority('of kura')];
  const [ofEds, ofEnvoy] = [path.join(folder, 'eds'), path.join(folder, 'envoy')];
  await writeCertificate(ofEds, { authority, name: 'kura-eds' });
  await writeCertificate(ofEnvoy, { authority, name: 'kura-envoy' });
  return { ofEds, ofEnvoy };
}
