/** Prefetch jobs through the real Envoy with its fragment: two replicas of the origin service, and scripted shards. */
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { freePorts } from '../../services/local/free-ports.ts';
import { allow, headersOf } from '../envoy/support/decisions.ts';
import { setShard, startRig } from '../envoy/support/rig.ts';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { addOrigin, setEndpoints } from '../support/origin-fragment.ts';
import { type Service, startService, temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { codeOf, startOrigin } from './support/origin.ts';
import { startFakeShards } from './support/shards.ts';

const credential = 'credential-of-this-test-0123456789';
const portOf = (address: string) => Number(address.split(':').at(-1));

interface Progress {
  readonly id: string;
  readonly state: string;
}

async function setting(t: ExecutionContext) {
  const folder = await temporaryFolder(t);
  await mkdir(path.join(folder, 'data', 'train'), { recursive: true });
  await writeFile(path.join(folder, 'keys'), credential);
  for (let index = 0; index < 60; index++) await writeFile(path.join(folder, 'data', 'train', `${index} %`), 'x');
  const shards = [await startFakeShards(t), await startFakeShards(t), await startFakeShards(t)];
  const [fillPort] = (await freePorts(1)) as [number];
  const environment = { KURA_ORIGIN_FILL_URL: `http://127.0.0.1:${fillPort}`, KURA_ORIGIN_CREDENTIAL_FILE: path.join(folder, 'keys') };
  const origins = `- { name: nfs, prefix: vision/nfs/, file: { path: ${path.join(folder, 'data')} } }\n`;
  const replicas: Service[] = [];
  for (let index = 0; index < 2; index++) replicas.push((await startOrigin(t, origins, environment)).service);
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      addOrigin(bootstrap, { fillPort, originPorts: replicas.map(({ listening }) => portOf(listening.prefetch as string)) });
      setEndpoints(
        bootstrap,
        'kura-cache',
        shards.map(({ url }) => portOf(url)),
      );
    },
  });
  rig.decide = () => allow(undefined, headersOf({ credential, fill: 'nfs' }));
  const ask = (method: string, target: string) =>
    waitFor('a response in time', async () => {
      const response = await call(`http://127.0.0.1:${rig.port}`, { method, path: `/prefetch/${target}`, token: 'e30.caller.x' });
      // On a busy machine the check can exceed its timeout.
      return response.status !== 503 && response;
    });
  const start = async (prefix: string) => JSON.parse(String((await ask('POST', prefix)).body)) as Progress;
  const finished = ({ id }: Progress, prefix: string) =>
    waitFor('the end of the job', async () => {
      const response = await ask('GET', `${prefix}?id=${id}`);
      if (response.status !== 200) throw new Error(String(response.body));
      const progress = JSON.parse(String(response.body)) as Progress;
      return progress.state !== 'running' && progress;
    });
  return { shards, replicas, rig, ask, start, finished };
}

test.serial('every call meets the replica of its job, and each object reaches the shard of its key', async (t) => {
  const { shards, rig, start, finished, ask } = await setting(t);
  const prefix = 'vision/nfs/train/';
  t.like(await finished(await start(prefix), prefix), { state: 'done', accepted: 60, objects: 60, present: 0, failures: 0 });
  t.true(shards.every(({ stored }) => stored.size > 0));
  t.is(
    shards.reduce((sum, { stored }) => sum + stored.size, 0),
    60,
  );
  for (const [index, { stored, requests }] of shards.entries()) {
    const key = [...stored.keys()][0] as string;
    const before = requests.length;
    await waitFor('a read', async () => (await rig.call({ key })) === 405);
    t.is(shards[index]?.requests.length, before + 1, 'a reader of the key meets the same shard');
  }
  const second = await start(prefix);
  for (let round = 0; round < 20; round++) t.is((await ask('GET', `${prefix}?id=${second.id}`)).status, 200);
  t.like(await finished(second, prefix), { state: 'done', objects: 0, present: 60 });
});

test.serial('a lost replica loses its job, and another job continues on the other replica', async (t) => {
  const { shards, replicas, start, finished, ask } = await setting(t);
  const prefix = 'vision/nfs/train/';
  let isBlocked = false;
  let fills = 0;
  const block = (): boolean | Promise<boolean> => {
    if (++fills <= 20) return false;
    isBlocked = true;
    return new Promise(() => undefined);
  };
  for (const shard of shards) shard.intercept = block;
  const lost = await start(prefix);
  await waitFor('a part of the objects', () => isBlocked);
  const owner = replicas.find(({ output }) => output().includes('"action":"start"'));
  await owner?.stop('SIGKILL');
  for (const shard of shards) shard.intercept = () => false;
  const response = await waitFor('the other replica', async () => {
    const answer = await ask('GET', `${prefix}?id=${lost.id}`);
    return answer.status === 404 && answer;
  });
  t.is(codeOf(response), 'no-such-job');
  const next = await start(prefix);
  const { state, objects, present } = (await finished(next, prefix)) as Progress & { objects: number; present: number };
  t.deepEqual([state, objects + present], ['done', 60]);
  t.true(present >= 20 && objects <= 40);
});

test.serial('a shard behind the listener for fills rejects headers that authz has not signed', async (t) => {
  const folder = await temporaryFolder(t);
  const file = path.join(folder, 'keys');
  await writeFile(file, credential);
  const shard = await startService('cache', {
    KURA_CACHE_LISTEN: '127.0.0.1:0',
    KURA_CACHE_METRICS_LISTEN: '127.0.0.1:0',
    KURA_CACHE_DIRECTORY: path.join(folder, 'shard'),
    KURA_CACHE_CREDENTIAL_FILE: file,
    KURA_CACHE_MAX_BYTES: '64Mi',
  });
  t.teardown(() => shard.stop('SIGKILL'));
  const [fillPort, unused] = (await freePorts(2)) as [number, number];
  await startRig(t, {
    edit: (bootstrap) => {
      addOrigin(bootstrap, { fillPort, originPorts: [unused] });
      setShard(bootstrap, portOf(shard.listening.objects as string));
    },
  });
  const head = async (headers: Readonly<Record<string, string>>) =>
    (await call(`http://127.0.0.1:${fillPort}`, { method: 'HEAD', path: '/through/vision/x', headers })).status;
  t.is(await head({}), 401);
  t.is(await head({ ...callerHeaders({ credential: randomBytes(32).toString('hex') }) }), 401);
  t.is(await head({ ...callerHeaders({ credential }) }), 404);
});
