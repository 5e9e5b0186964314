/** Clients that users have, unchanged, read through kura from an empty cache. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, realpath, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type TestFn } from 'ava';
import { installedPackages } from '../support/python-packages.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, shardMetric, startLocalSystem } from './support/system.ts';
import { startWebOrigin, type WebOrigin } from './support/web-origin.ts';

const run = promisify(execFile);
const scripts = path.join(import.meta.dirname, 'clients');
const test = anyTest as TestFn;
const as = 'vision/trainer';
const files = 12;
let system: LocalSystem;
let web: WebOrigin;
let packages: string;
/** Each subfolder has the same files. */
let data: string;

test.before(async (t) => {
  t.timeout(5 * 60_000);
  packages = await installedPackages('clients', path.join(scripts, 'requirements.txt'));
  const state = await realpath(await mkdtemp(path.join(tmpdir(), 'kura-e2e-')));
  data = path.join(state, 'data');
  await placeFiles();
  web = await startWebOrigin();
  const origins = [
    `vision/data/=${data}`,
    // pfio names a local file by its whole path.
    `vision/pfio/file:/${data}/=${data}`,
    `vision/slow/file:/${data}/=http://127.0.0.1:${web.port}/`,
  ];
  const args = ['--shards', '2', ...origins.flatMap((origin) => ['--origin', origin])];
  system = await startLocalSystem({ args, stateDirectory: state });
});
test.after.always(async () => {
  await system?.stop();
  web?.close();
});

async function placeFiles(): Promise<void> {
  const first = path.join(data, 'get');
  await mkdir(first, { recursive: true });
  await mkdir(path.join(data, 'empty'));
  for (let index = 0; index < files; index += 1)
    await writeFile(path.join(first, `${String(index).padStart(2, '0')}.bin`), Buffer.alloc(index ** 5 + index, `${index},`));
  const names = Array.from({ length: files }, (_, index) => `${String(index).padStart(2, '0')}.bin`);
  await run('tar', ['--create', '--file', path.join(data, 'all.tar'), '--directory', first, ...names]);
  await cp(path.join(data, 'all.tar'), path.join(first, 'all.tar'));
  for (const client of ['open', 'many', 'fsspec', 'dataset', 'webdataset', 'http', 'curl', 'pfio'])
    await cp(first, path.join(data, client), { recursive: true });
}

async function runClient(script: string, folder: string, prefix: string): Promise<string> {
  const { url, tokens } = await system.local();
  const token = tokens[as] as string;
  const { stderr } = await run('python3', [path.join(scripts, script), folder], {
    env: {
      PATH: process.env.PATH,
      HOME: system.stateDirectory,
      PYTHONPATH: [packages, path.join(root, 'clients', 'python')].join(path.delimiter),
      PYTHONDONTWRITEBYTECODE: '1',
      KURA_SERVER: url,
      KURA_TOKEN_FILE: token,
      KURA_PREFIX: prefix,
      PFIO_HTTP_BEARER_TOKEN_PATH: token,
    },
    timeout: 120_000,
  });
  return stderr;
}

test.serial('curl reads an object, a range and a miss', async (t) => {
  const { url } = await system.local();
  const header = `authorization: Bearer ${await system.token(as)}`;
  const curl = (name: string, ...words: string[]) =>
    run('curl', ['--silent', '--header', header, ...words, `${url}/through/vision/data/curl/${name}`], { encoding: 'buffer' });
  const original = await readFile(path.join(data, 'curl', '11.bin'));
  t.true((await curl('11.bin', '--range', '1000-1999')).stdout.equals(original.subarray(1_000, 2_000)));
  t.true((await curl('11.bin', '--fail')).stdout.equals(original));
  const absent = await curl('absent', '--fail').catch((error: { code: number }) => error.code);
  // It is the status of curl for an HTTP error.
  t.is(absent as number, 22);
});

test.serial('kura-client, fsspec and WebDataset read every object, and upload nothing', async (t) => {
  await runClient('through_client.py', data, 'vision/data/');
  t.is(await shardMetric(system, 'kura_cache_requests_total', 'method="PUT"'), 0);
  t.is(await shardMetric(system, 'kura_cache_fills_total', 'result="failed"'), 0);
});

test.serial('pfio reads every object', async (t) => {
  const stored = () => shardMetric(system, 'kura_cache_fills_total', 'result="stored"');
  const before = await stored();
  await runClient('pfio_through_client.py', path.join(data, 'pfio'), 'vision/pfio');
  t.true((await stored()) > before);
});

test.serial('pfio takes a fill of more than 3 s for a miss, reads the source and uploads, and its upload wins', async (t) => {
  const folder = path.join(data, 'slow');
  await mkdir(folder);
  await writeFile(path.join(folder, 'a.bin'), 'from the source');
  const { open } = web.place('/slow/a.bin', { bytes: 2 ** 20, gateAt: 0 });
  t.regex(await runClient('pfio_through_client.py', folder, 'vision/slow'), /timed out/);
  t.deepEqual(web.requests, ['GET /slow/a.bin']);
  open();
  await waitFor('the end of the fill', async () => (await shardMetric(system, 'kura_cache_fills_total', 'result="not-kept"')) === 1);
  const found = await system.call({ as, path: `/through/vision/slow/file:/${folder}/a.bin` });
  t.deepEqual([found.status, found.headers['x-kura-cache'], String(found.body)], [200, 'hit', 'from the source']);
  await runClient('pfio_through_client.py', folder, 'vision/slow');
});
