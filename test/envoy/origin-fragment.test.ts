/** The real Envoy with the fragment of component `origin`: the route to prefetch jobs, and the listener through which they reach shards. */
import test, { type ExecutionContext } from 'ava';
import { freePorts } from '../../services/local/free-ports.ts';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { addOrigin, setEndpoints } from '../support/origin-fragment.ts';
import { type Recorder, startRecorder } from '../support/recorder.ts';
import { waitFor } from '../support/wait.ts';
import { allow, grant } from './support/decisions.ts';
import { startRig } from './support/rig.ts';

async function setting(t: ExecutionContext) {
  const recorders = (): Promise<Recorder[]> => Promise.all([startRecorder(), startRecorder(), startRecorder()]);
  const [shards, replicas] = [await recorders(), await recorders()];
  for (const each of [...shards, ...replicas]) t.teardown(() => each.close());
  const ports = (list: readonly Recorder[]) => list.map(({ port }) => port);
  const [fillPort] = (await freePorts(1)) as [number];
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      addOrigin(bootstrap, { fillPort, originPorts: ports(replicas) });
      setEndpoints(bootstrap, 'kura-cache', ports(shards));
    },
  });
  rig.decide = () => allow(grant());
  const requests = (list: readonly Recorder[]) => list.flatMap((each, index) => each.requests.map((request) => ({ ...request, index })));
  return { rig, shards: () => requests(shards), replicas: () => requests(replicas), fill: `http://127.0.0.1:${fillPort}` };
}

test('all calls of a job reach one replica, and jobs of other prefixes reach others', async (t) => {
  const { rig, replicas } = await setting(t);
  const prefixes = Array.from({ length: 20 }, (_, index) => `vision/${index}/`);
  for (const prefix of prefixes) {
    for (const [method, query] of [
      ['POST', ''],
      ['GET', '?id=1'],
      ['GET', '?id=2&x=y?z'],
      ['DELETE', '?id=1'],
    ] as const)
      await waitFor('a response', async () => (await rig.call({ method, prefix: '/prefetch/', key: prefix + query })) === 404);
  }
  const byPrefix = prefixes.map((prefix) => new Set(replicas().flatMap(({ url, index }) => (url.includes(`/${prefix}`) ? [index] : []))));
  t.true(byPrefix.every(({ size }) => size === 1));
  t.true(new Set(byPrefix.flatMap((each) => [...each])).size > 1);
  t.true(replicas().every(({ headers }) => headers['x-kura-caller'] !== undefined && headers['x-kura-terms'] !== undefined));
});

test('the listener for fills reaches the shard of each key, without authz and with the signed headers', async (t) => {
  const { rig, shards, fill } = await setting(t);
  const keys = Array.from({ length: 30 }, (_, index) => `vision/a%20b//${index}?x`);
  for (const key of keys) await waitFor('a response', async () => (await rig.call({ key })) === 404);
  const asked = rig.asked.length;
  const headers = { ...callerHeaders({ fill: { origin: 'nfs', isPrefetch: true }, credential: 'x'.repeat(32) }) };
  for (const key of keys) t.is((await call(fill, { method: 'HEAD', path: `/through/${key}`, headers })).status, 404);
  t.is(rig.asked.length, asked);
  const indexOf = (url: string) => shards().find((request) => request.url === url)?.index;
  t.deepEqual(
    keys.map((key) => indexOf(`/through/${key}`)),
    keys.map((key) => indexOf(`/objects/${key}`)),
  );
  const sent = shards().filter(({ url }) => url.startsWith('/through/'));
  t.is(sent.length, keys.length);
  for (const request of sent) t.like(request.headers, headers);
});

test('the listener for fills has no other path and no other method', async (t) => {
  const { shards, fill } = await setting(t);
  const headers = { ...callerHeaders({ fill: 'nfs' }) };
  const before = shards().length;
  for (const [method, path] of [
    ['GET', '/through/vision/x'],
    ['PUT', '/through/vision/x'],
    ['HEAD', '/objects/vision/x'],
    ['HEAD', '/direct/vision/x'],
    ['HEAD', '/through/../objects/vision/x'],
    ['HEAD', '/healthz'],
    ['GET', '/fetch/nfs/x'],
  ] as const)
    t.is((await call(fill, { method, path, headers })).status, 404, `${method} ${path}`);
  t.is((await call(fill, { method: 'HEAD', path: '/through/vision%2Fx', headers })).status, 400);
  t.is(shards().length, before);
});
