/** Clients that users have, unchanged and from their own releases, against a running system. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { temporaryFolder } from '../support/service.ts';
import { type LocalSystem, root, shardMetric, startLocalSystem } from './support/system.ts';

const run = promisify(execFile);
const scripts = path.join(import.meta.dirname, 'clients');
const test = anyTest as TestFn;
let system: LocalSystem;
let packages: string;

test.before(async (t) => {
  t.timeout(5 * 60_000);
  packages = await installPackages();
  // Most of the files are large enough to go straight under /direct/.
  system = await startLocalSystem({ environment: { KURA_CACHE_DIRECT_MIN_BYTES: '1000' } });
});
test.after.always(() => system?.stop());

/** Fetched once for each version of the list. */
async function installPackages(): Promise<string> {
  const list = path.join(scripts, 'requirements.txt');
  const { stdout: version } = await run('python3', ['-c', 'import sys; print(sys.version_info[:2])']);
  const stamp = createHash('sha256')
    .update(await readFile(list))
    .update(version)
    .digest('hex')
    .slice(0, 12);
  const target = path.join(root, '.tools', `python-clients-${stamp}`);
  if (existsSync(target)) return target;
  await mkdir(path.dirname(target), { recursive: true });
  const scratch = await mkdtemp(`${target}-`);
  try {
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary=:all:'];
    await run('python3', [...pip, '--no-warn-conflicts', '--target', scratch, '-r', list], {
      env: { ...process.env, PIP_ROOT_USER_ACTION: 'ignore' },
    });
    await rename(scratch, target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return target;
}

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
        PYTHONPATH: packages,
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
  ['the example of k8s/examples reads through, takes up a new token, forks, and does without a cache that is away', 'reader.py'],
  ['pfio reads files and members of a zip file from the cache, with a token that is replaced', 'pfio_client.py'],
  ['fsspec reads whole objects and ranges, and takes a miss for a file that is not there', 'fsspec_client.py'],
  ['requests streams both ways from several processes', 'requests_client.py'],
  ['WebDataset writes and reads shards through curl', 'webdataset_client.py'],
] as const) {
  test.serial(name, (t) => runClient(t, script));
}

for (const [name, script] of [
  ['fsspec over aiohttp', 'fsspec_client.py'],
  ['requests', 'requests_client.py'],
  ['WebDataset’s curl', 'webdataset_client.py'],
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
