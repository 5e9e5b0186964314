/** Direct transfers on a whole system: Envoy decides, the bytes go straight. */
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { CoreV1Api } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { call } from '../support/http.ts';
import { runProgram } from '../support/program.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, shardMetric, startLocalSystem } from './support/system.ts';

const run = promisify(execFile);
const test = anyTest as TestFn;
const as = 'vision/trainer';
const body = randomBytes(1_200_000);
let system: LocalSystem;

test.before(async () => {
  system = await startLocalSystem({ args: ['--shard-bytes', '5Gi'], environment: { KURA_CACHE_DIRECT_MIN_BYTES: '256Ki' } });
});
test.after.always(() => system?.stop());

const direct = async (): Promise<number> =>
  (await shardMetric(system, 'kura_cache_sent_bytes_total', 'direct')) +
  (await shardMetric(system, 'kura_cache_received_bytes_total', 'direct'));

/** Where Envoy's answer sends a request. */
async function locate(key: string, request: { as?: string; token?: string } = { as }): Promise<{ url: string; path: string }> {
  const { status, headers } = await system.call({ ...request, path: `/direct/${key}` });
  if (status !== 307) throw new Error(`/direct/${key} answered ${status}`);
  const { origin, pathname } = new URL(headers.location as string);
  return { url: origin, path: pathname };
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

test.serial('a key has the same shard under both prefixes', async (t) => {
  const shards = new Set<string>();
  for (let at = 0; at < 100; at += 1) {
    const key = `vision/set//${at}?v=1`;
    const paths = [`/objects/${key}`, `/direct/${key}`] as const;
    const put = await system.call({ as, method: 'PUT', path: paths[at % 2] as string, body: `of ${at}` });
    t.is(put.status, 201);
    for (const path of paths) {
      const got = await system.call({ as, path });
      t.deepEqual([got.status, got.body.toString(), got.headers['x-kura-shard']], [200, `of ${at}`, put.headers['x-kura-shard']]);
    }
    shards.add(String(put.headers['x-kura-shard']));
  }
  t.is(shards.size, 4);
});

test.serial('1 GiB by curl -L, both ways, is byte for byte the same, and its bytes are counted as direct', async (t) => {
  const folder = await temporaryFolder(t);
  const [file, back] = [path.join(folder, 'file'), path.join(folder, 'back')];
  const handle = await open(file, 'w');
  for (let at = 0; at < 64; at += 1) await handle.write(randomBytes(16 * 2 ** 20));
  await handle.close();
  const before = await direct();
  const { url } = await system.local();
  const curl = ['-f', '-s', '-S', '-L', '-H', `Authorization: Bearer ${await system.token(as)}`, `${url}/direct/vision/huge`];
  await run('curl', [...curl, '-T', file]);
  await run('curl', [...curl, '-o', back]);
  t.is(await hashOf(back), await hashOf(file));
  t.is((await direct()) - before, 2 * 2 ** 30);
  const proxied = await shardMetric(system, 'kura_cache_sent_bytes_total', 'proxied');
  t.true(proxied < 2 ** 20, String(proxied));
});

test.serial('who may not have an object never gets a ticket for it', async (t) => {
  await system.call({ as: 'nlp/trainer', method: 'PUT', path: '/objects/nlp/secret', body });
  const redirects = await shardMetric(system, 'kura_cache_requests_total', 'redirected');
  for (const request of [{ as }, { token: 'junk' }, {}]) {
    for (const path of ['/direct/nlp/secret', '/direct/vision/../nlp/secret', '/direct/vision/..%2fnlp/secret']) {
      const got = await system.call({ ...request, path });
      t.true([400, 401, 403].includes(got.status), `${path}: ${got.status}`);
      const put = await system.call({ ...request, path, method: 'PUT', body, expect: true, headers: { 'content-length': body.length } });
      t.true([400, 401, 403].includes(put.status) && !put.bodySent, `${path}: ${put.status}`);
      t.deepEqual([got.headers.location, put.headers.location], [undefined, undefined]);
    }
  }
  t.is(await shardMetric(system, 'kura_cache_requests_total', 'redirected'), redirects);
});

test.serial('Envoy takes no ticket, and a shard needs no token with one', async (t) => {
  await system.call({ as, method: 'PUT', path: '/objects/vision/a', body });
  const { url, path } = await locate('vision/a');
  t.is((await system.call({ as, path })).status, 404);
  t.true((await call(url, { path })).body.equals(body));
  t.is((await call(url, { path: '/objects/vision/a', token: await system.token(as) })).status, 401);
});

test.serial('a shard that is killed between the two requests is an error, and a retry through Envoy works', async (t) => {
  await system.call({ as, method: 'PUT', path: '/objects/vision/killed', body });
  const { headers } = await system.call({ as, method: 'HEAD', path: '/objects/vision/killed' });
  const { url, path } = await locate('vision/killed');
  const name = String(headers['x-kura-shard']).split('/')[0] as string;
  const pid = await system.signal(name, 'SIGKILL');
  await t.throwsAsync(call(url, { path }));
  await system.restarted(name, pid);
  await waitFor('a retry works', async () => (await system.call({ as, path: '/objects/vision/killed' })).body.equals(body));
  const again = await locate('vision/killed');
  t.is((await call(again.url, { path })).status, 403);
  t.true((await call(again.url, { path: again.path })).body.equals(body));
});

test.serial('the kura command moves bodies straight with --direct, and the same bytes', async (t) => {
  const folder = await temporaryFolder(t);
  await mkdir(path.join(folder, 'data'));
  for (const [name, size] of Object.entries({ small: 1000, large: 3_000_000, 'a b': 2_000_000 }))
    await writeFile(path.join(folder, 'data', name), randomBytes(size));
  const kura = async (args: readonly string[], stdin?: Buffer) => {
    const before = await direct();
    const words = [...args, '--local', path.join(system.stateDirectory, 'local.json')];
    const ended = await runProgram('services/cli/main.ts', words, {
      cwd: folder,
      environment: { HOME: folder },
      ...(stdin === undefined ? {} : { stdin }),
    });
    t.is(ended.status, 0, ended.stderr);
    return (await direct()) - before;
  };
  t.is(await kura(['put', 'data/large', 'vision/cli/large', '--direct']), 3_000_000);
  t.is(await kura(['put', '-', 'vision/cli/stdin', '--direct'], body), body.length);
  t.is(await kura(['put', 'data/small', 'vision/cli/small', '--direct']), 0);
  t.is(await kura(['get', 'vision/cli/large', '-o', 'back', '--direct']), 3_000_000);
  t.true((await readFile(path.join(folder, 'back'))).equals(await readFile(path.join(folder, 'data', 'large'))));
  t.is(await kura(['get', 'vision/cli/stdin', '-o', 'back', '--direct']), body.length);
  t.true((await readFile(path.join(folder, 'back'))).equals(body));
  t.is(await kura(['get', 'vision/cli/large', '-o', 'back']), 0);
  t.is(await kura(['warm', 'data', 'vision/warm', '--direct']), 5_000_000);
  t.is(await kura(['verify', 'data', 'vision/warm']), 0);
  t.is(await kura(['epoch', 'data', '--prefix', 'vision/epoch', '--direct']), 2 * 5_000_000);
});

test.serial('the ticket of a deleted Pod ends with its 10 s, and it gets no other', async (t) => {
  await system.call({ as, method: 'PUT', path: '/objects/vision/a', body });
  const token = await system.token('vision/eval');
  const { url, path } = await locate('vision/a', { token });
  const takenMs = performance.now();
  await system.kubernetes.api(CoreV1Api).deleteNamespacedPod({ namespace: 'vision', name: 'eval', gracePeriodSeconds: 0 });
  t.is((await call(url, { path })).status, 200);
  await waitFor('its ticket has ended', async () => (await call(url, { path })).status === 403);
  const tookMs = performance.now() - takenMs;
  t.true(tookMs > 9_000 && tookMs < 15_000, `${tookMs} ms`);
  await waitFor('its token is refused', async () => (await system.call({ token, path: '/direct/vision/a' })).status === 401);
  t.is((await system.call({ as, path: '/direct/vision/a' })).status, 307);
});

test.serial('where the policy limits bytes a second, bodies stay on the way on which they are counted', async (t) => {
  const file = (await system.local()).policy as string;
  const policy = await readFile(file, 'utf8');
  t.regex(policy, /^limits:\n/m);
  await writeFile(file, policy.replace('limits:\n', 'limits:\n  bytesPerSecond: 64Gi\n'));
  // Each worker thread of Envoy has a grant from before, for some seconds; a connection goes to any of them.
  const everywhere = async (status: number): Promise<boolean> => {
    for (let index = 0; index < 20; index++) if ((await system.call({ as, path: '/direct/vision/a' })).status !== status) return false;
    return true;
  };
  await waitFor('bodies come through Envoy', () => everywhere(200));
  t.true((await system.call({ as, path: '/direct/vision/a' })).body.equals(body));
  const before = await direct();
  const put = { as, method: 'PUT', path: '/direct/vision/counted', body, expect: true, headers: { 'content-length': body.length } };
  t.is((await system.call(put)).status, 201);
  t.true((await system.call({ as, path: '/direct/vision/counted' })).body.equals(body));
  t.is(await direct(), before);
  await writeFile(file, policy);
  await waitFor('they go straight again', () => everywhere(307));
});

test.serial('no ticket is in what the system logs', async (t) => {
  const { path } = await locate('vision/a');
  for (const part of (path.split('/')[2] as string).split('.')) t.false(system.output().includes(part));
  t.false(system.output().includes('/ticket/'));
});
