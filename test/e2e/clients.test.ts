/** Clients that users have, unchanged and from their own releases, against a running system. */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { readMetric } from '../support/metrics.ts';
import { findPeer } from '../support/peers.ts';
import { installedPackages } from '../support/python-packages.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, shardMetric, startLocalSystem } from './support/system.ts';

const run = promisify(execFile);
const scripts = path.join(import.meta.dirname, 'clients');
const test = anyTest as TestFn;
let system: LocalSystem;
let packages: string;

test.before(async (t) => {
  t.timeout(5 * 60_000);
  packages = await installedPackages('clients', path.join(scripts, 'requirements.txt'));
  // Most of the files are large enough to go straight under /direct/.
  system = await startLocalSystem({ environment: { KURA_CACHE_DIRECT_MIN_BYTES: '1000' } });
});
test.after.always(() => system?.stop());

/** Twelve files of all sizes, and two good tokens, the second to take the place of the first. */
async function runClient(t: ExecutionContext, script: string, way = '/objects/'): Promise<void> {
  const folder = await temporaryFolder(t);
  const data = path.join(folder, 'data');
  await mkdir(data);
  for (let index = 0; index < 12; index++)
    await writeFile(path.join(data, `${index}-of-12.bin`), Buffer.alloc(index ** 5 + index, `${index},`));
  const { tokens } = await system.local();
  const [token, rotated] = [path.join(folder, 'token'), path.join(folder, 'rotated')];
  await copyFile(tokens['vision/trainer'] as string, token);
  await copyFile(tokens['vision/eval'] as string, rotated);
  const { url } = await system.local();
  await t.notThrowsAsync(
    run('python3', [path.join(scripts, script), data, rotated], {
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        PYTHONPATH: [packages, path.join(root, 'clients', 'python')].join(path.delimiter),
        PYTHONDONTWRITEBYTECODE: '1',
        KURA_SERVER: url,
        KURA_TOKEN_FILE: token,
        KURA_WAY: way,
        KURA_PREFIX: `vision/${way.replaceAll('/', '')}/${script}`,
        PFIO_HTTP_BEARER_TOKEN_PATH: token,
      },
      timeout: 120_000,
    }),
  );
}

for (const [name, script] of [
  ['pfio reads files and members of a zip file from the cache, with a token that is replaced', 'pfio_client.py'],
  ['fsspec reads whole objects and ranges, and takes a miss for a file that is not there', 'fsspec_client.py'],
  ['requests streams both ways from several processes', 'requests_client.py'],
  ['WebDataset writes and reads shards through curl', 'webdataset_client.py'],
  ['WebDataset writes and reads shards over kura:// of kura-client, or from their origin', 'webdataset_kura_client.py'],
] as const) {
  test.serial(name, (t) => runClient(t, script));
}

for (const [name, script] of [
  ['fsspec over aiohttp', 'fsspec_client.py'],
  ['requests', 'requests_client.py'],
  ['WebDataset’s curl', 'webdataset_client.py'],
  ['WebDataset over kura-client', 'webdataset_kura_client.py'],
] as const) {
  test.serial(`${name} follows the redirects of /direct/ to the shards`, async (t) => {
    const before = await shardMetric(system, 'kura_cache_tickets_total', 'used');
    await runClient(t, script, '/direct/');
    t.true((await shardMetric(system, 'kura_cache_tickets_total', 'used')) > before);
    t.is(await shardMetric(system, 'kura_cache_tickets_total', 'refused'), 0);
  });
}

test.serial('curl, requests and aiohttp drop the token when they go to another host or port; urllib does not', async (t) => {
  const { stdout } = await run('python3', [path.join(scripts, 'token_after_redirect.py')], {
    env: { PATH: process.env.PATH, PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: '1' },
    timeout: 60_000,
  });
  t.deepEqual(JSON.parse(stdout), {
    curl: { 'other port': 'dropped', 'other host': 'dropped' },
    requests: { 'other port': 'dropped', 'other host': 'dropped' },
    aiohttp: { 'other port': 'dropped', 'other host': 'dropped' },
    fsspec: { 'other port': 'dropped', 'other host': 'dropped' },
    urllib: { 'other port': 'sent', 'other host': 'sent' },
  });
});

test.serial('Bazel’s protocol: PUT and GET under ac/ and cas/, and a miss has a length', async (t) => {
  const digest = createHash('sha256').update('output').digest('hex');
  const as = 'vision/trainer';
  for (const kind of ['ac', 'cas']) {
    const key = `/objects/vision/bazel/${kind}/${digest}`;
    const miss = await system.call({ as, path: key });
    t.is(miss.status, 404);
    t.truthy(miss.headers['content-length']);
    t.is(
      (await system.call({ as, method: 'PUT', path: key, body: 'output', headers: { 'content-type': 'application/octet-stream' } })).status,
      201,
    );
    t.is((await system.call({ as, path: key, headers: { accept: '*/*' } })).body.toString(), 'output');
  }
});

test.serial('sccache’s protocol: folders are asked for and made without a word to a shard, and not for strangers', async (t) => {
  const folder = '/objects/vision/sccache/ab/';
  const as = 'vision/trainer';
  // With a grant in Envoy and without one.
  for (const prelude of [false, true]) {
    if (prelude) await system.call({ as, path: '/objects/vision/anything' });
    t.is((await system.call({ as, method: 'PROPFIND', path: folder, headers: { depth: '0' } })).status, 404);
    t.is((await system.call({ as, method: 'MKCOL', path: folder })).status, 201);
    t.is((await system.call({ as: 'nlp/trainer', method: 'MKCOL', path: folder })).status, 403);
    t.is((await system.call({ method: 'MKCOL', path: folder })).status, 401);
  }
  t.is((await system.call({ as, path: folder })).status, 404, 'nothing was made');
  t.is((await system.call({ as, method: 'PUT', path: `${folder}c`, body: 'output' })).status, 201);
  t.is((await system.call({ as, path: `${folder}c` })).body.toString(), 'output');
});

const [ccache, compiler] = [findPeer('ccache', { debianPackage: 'ccache' }), findPeer('gcc', { debianPackage: 'gcc' })];
if (compiler !== undefined) {
  test.serial('sccache compiles on one machine and takes the result from the cache on another', async (t) => {
    const folder = await temporaryFolder(t);
    const { url, tokens } = await system.local();
    const token = (await readFile(tokens['vision/trainer'] as string, 'utf8')).trim();
    await writeFile(path.join(folder, 'a.c'), `int answer(void) { return ${Date.now() % 1_000_000}; }\n`);
    const sccache = path.join(packages, 'bin', 'sccache');
    const compile = async (machine: string): Promise<(kind: 'hits' | 'misses') => number> => {
      const env = {
        PATH: process.env.PATH,
        HOME: folder,
        SCCACHE_SERVER_UDS: path.join(folder, machine),
        SCCACHE_WEBDAV_ENDPOINT: `${url}/objects/vision/sccache-real`,
        SCCACHE_WEBDAV_TOKEN: token,
      };
      const words = ['--pdeathsig', 'KILL', '--', sccache];
      const server = spawn('setpriv', words, { env: { ...env, SCCACHE_START_SERVER: '1', SCCACHE_NO_DAEMON: '1' }, stdio: 'ignore' });
      const ended = once(server, 'exit');
      try {
        await waitFor('the server of sccache is there', () => existsSync(path.join(folder, machine)));
        await run(sccache, [compiler, '-c', 'a.c', '-o', `${machine}.o`], { cwd: folder, env });
        const stats = async () => {
          const { stdout } = await run(sccache, ['--show-stats', '--stats-format', 'json'], { env });
          return (JSON.parse(stdout) as { stats: Record<string, number | { counts: Record<string, number> }> }).stats;
        };
        // It writes behind the compiler's back.
        const last = await waitFor('what was compiled is written', async () => {
          const now = await stats();
          const { counts } = now.cache_hits as { counts: Record<string, number> };
          return (now.cache_writes === 1 || Object.keys(counts).length > 0) && now;
        });
        return (kind) =>
          Object.values((last[`cache_${kind}`] as { counts: Record<string, number> }).counts).reduce((one, other) => one + other, 0);
      } finally {
        server.kill('SIGTERM');
        await ended;
      }
    };
    const foldersAsked = async () => readMetric((await system.local()).authz.metricsUrl, 'kura_authz_checks_total', 'decision="folder"');
    const before = await foldersAsked();
    const first = await compile('first');
    t.true((await foldersAsked()) > before, 'it asks for folders, or makes them');
    t.deepEqual([first('hits'), first('misses')], [0, 1]);
    const second = await compile('second');
    t.deepEqual([second('hits'), second('misses')], [1, 0]);
    t.deepEqual(await readFile(path.join(folder, 'first.o')), await readFile(path.join(folder, 'second.o')));
  });
}
if (ccache !== undefined && compiler !== undefined) {
  test.serial('ccache compiles on one machine and takes the result from the cache on another', async (t) => {
    const folder = await temporaryFolder(t);
    const { url, tokens } = await system.local();
    const token = (await readFile(tokens['vision/trainer'] as string, 'utf8')).trim();
    await writeFile(path.join(folder, 'a.c'), `int answer(void) { return ${Date.now() % 1_000_000}; }\n`);
    const compile = async (machine: string, prefix: string) => {
      const storage = `${url}/objects/${prefix}/ccache|bearer-token=${token}`;
      const env = { PATH: process.env.PATH, HOME: folder, CCACHE_DIR: path.join(folder, machine) };
      // Before 4.7 the setting had another name.
      await run(ccache, [compiler, '-c', 'a.c', '-o', `${machine}.o`], {
        cwd: folder,
        env: { ...env, CCACHE_REMOTE_STORAGE: storage, CCACHE_SECONDARY_STORAGE: storage },
      });
      const { stdout } = await run(ccache, ['--print-stats'], { env });
      return (name: string): number => Number(new RegExp(`^${name}\\t(\\d+)$`, 'm').exec(stdout)?.[1]);
    };
    const first = await compile('first', 'vision');
    t.is(first('cache_miss'), 1);
    const second = await compile('second', 'vision');
    t.is(second('cache_miss'), 0);
    t.is(second('direct_cache_hit') + second('preprocessed_cache_hit'), 1);
    t.deepEqual(await readFile(path.join(folder, 'first.o')), await readFile(path.join(folder, 'second.o')));
    const stranger = await compile('stranger', 'nlp');
    t.is(stranger('cache_miss'), 1, 'a refusal is a miss: the compiler runs');
  });
}
