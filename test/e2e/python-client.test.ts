/** The Python package clients/python: built as a wheel, installed into an empty virtual environment, and tested against a running system. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import type { V1Pod } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { parseAllDocuments } from 'yaml';
import { createAuthority } from '../../services/fake-kubernetes/certificates.ts';
import { writeCertificate } from '../support/certificates.ts';
import { fetchOnce, pip } from '../support/python-packages.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, shardMetric, startLocalSystem } from './support/system.ts';

const run = promisify(execFile);
const test = anyTest as TestFn;
const client = path.join(root, 'clients', 'python');
const requirements = path.join(client, 'tests', 'requirements.txt');

interface Python {
  /** The Python of a virtual environment that holds the wheel and what the wheel requires. */
  readonly executable: string;
  /** A folder with pytest and the packages that the extras need. */
  readonly testPackages: string;
}

let folder: string;
let python: Python | undefined;
let system: LocalSystem;
test.before(async (t) => {
  t.timeout(5 * 60_000);
  folder = await mkdtemp(path.join(tmpdir(), 'kura-python-'));
  python = await installPython();
  if (python === undefined) return;
  const origin = path.join(folder, 'origin');
  await mkdir(origin);
  const args = ['--origin', `vision/origin/=${origin}`];
  system = await startLocalSystem({ args, environment: { KURA_CACHE_DIRECT_MIN_BYTES: '1000' } });
  const policy = (await system.local()).policy as string;
  const limits = '{ requestsPerSecond: 20, maxObjectBytes: 1Mi }';
  const noList = 'name: no-list, effect: deny, subjects: [{ namespaces: [vision] }], verbs: [LIST], keys: [vision/no-list/]';
  const rules = (await readFile(policy, 'utf8')).replace(/^rules:$/m, `rules:\n  - { ${noList} }`);
  await writeFile(policy, `${rules}\noverrides: [{ namespaces: [nlp], limits: ${limits} }]\n`);
  const body = Buffer.alloc(2 ** 20 + 1);
  const put = async (): Promise<number> =>
    (await system.call({ as: 'nlp/trainer', method: 'PUT', path: '/objects/nlp/large', body })).status;
  await waitFor('the limits are in force', async () => (await put()) === 413);
});
test.after.always(async () => {
  await system?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Undefined without python3 or the package index. With CI=true that is an error. */
async function installPython(): Promise<Python | undefined> {
  const packages = await fetchPackages().catch((error: Error) => {
    if (process.env.CI === 'true') throw error;
    console.warn(`the packages for Python are not available: skipping the tests of the Python client: ${error.message}`);
  });
  if (packages === undefined) return undefined;
  const testPackages = path.join(packages, 'installed');
  await pip(['wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', folder, client], { PYTHONPATH: testPackages });
  const wheel = (await readdir(folder)).find((name) => /^kura_client-.*-py3-none-any\.whl$/.test(name)) as string;
  const environment = path.join(folder, 'venv');
  await run('python3', ['-m', 'venv', '--without-pip', environment]);
  const executable = path.join(environment, 'bin', 'python');
  const { stdout: target } = await run(executable, ['-c', 'import site; print(site.getsitepackages()[0])']);
  await pip([...installFrom(packages), '--target', target.trim(), path.join(folder, wheel)]);
  return { executable, testPackages };
}

/** A folder with wheels, and with the same packages installed. */
function fetchPackages(): Promise<string> {
  return fetchOnce('package', requirements, async (scratch) => {
    await pip(['download', '--only-binary=:all:', '--dest', path.join(scratch, 'wheels'), '-r', requirements]);
    await pip([...installFrom(scratch), '--target', path.join(scratch, 'installed'), '-r', requirements]);
  });
}

function installFrom(packages: string): string[] {
  return ['install', '--no-index', '--find-links', path.join(packages, 'wheels')];
}

/** The variables of a Pod of vision. */
async function podVariables(): Promise<Record<string, string>> {
  const { url, tokens } = await system.local();
  return { PYTHONDONTWRITEBYTECODE: '1', KURA_SERVER: url, KURA_TOKEN_FILE: tokens['vision/trainer'] as string };
}

test.serial('three lines of Python read the first object, with nothing but the wheel', async (t) => {
  if (python === undefined) return t.pass();
  await system.call({ as: 'vision/trainer', method: 'PUT', path: '/objects/vision/hello', body: 'from kura' });
  const lines = ['import kura', 'cache = kura.Cache(prefix="vision")', 'print(cache.get("hello").decode())'];
  const { stdout, stderr } = await run(python.executable, ['-c', lines.join('\n')], { env: await podVariables() });
  t.deepEqual([stdout, stderr], ['from kura\n', '']);
});

test.serial('the Python of the README and of docs/use.md runs, and reads the second time from the cache', async (t) => {
  if (python === undefined) return t.pass();
  const file = path.join(await temporaryFolder(t), 'a.jpg');
  await writeFile(file, 'a picture');
  for (const [page, section] of [
    ['README.md', '## Point a workload at it'],
    ['docs/use.md', '### Python'],
    ['clients/python/README.md', '# kura-client'],
  ] as const) {
    const text = (await readFile(path.join(root, page), 'utf8')).split(`${section}\n`)[1] as string;
    const [, snippet = ''] = /^```python\n(.*?)^```$/ms.exec(text) ?? [];
    const program = `${snippet.replace('/mnt/imagenet/a.jpg', file)}\nprint(cache.counters().hits, cache.counters().errors)`;
    const prefix = `vision/${page}`;
    for (const printed of ['0 {}\n', '1 {}\n']) {
      const env = { ...(await podVariables()), KURA_PREFIX: prefix };
      const { stdout, stderr } = await run(python.executable, ['-c', program.replace('vision/imagenet', prefix)], { env });
      t.deepEqual([stdout, stderr], [printed, ''], page);
    }
  }
});

test.serial('the Pod of train.yaml fills the cache and then reads from it', async (t) => {
  if (python === undefined) return t.pass();
  const data = await temporaryFolder(t);
  for (const name of ['a', 'my file']) await writeFile(path.join(data, name), name);
  const text = await readFile(path.join(root, 'k8s', 'examples', 'train.yaml'), 'utf8');
  const pod = parseAllDocuments(text)[1]?.toJS() as V1Pod;
  const [script] = pod.spec?.containers[0]?.args ?? [];
  const env = { ...(await podVariables()), KURA_PREFIX: 'vision/train-example' };
  for (const printed of ['0 hits, 2 misses, 0 errors\n', '2 hits, 0 misses, 0 errors\n']) {
    const { stdout } = await run(python.executable, ['-c', (script as string).replace('/data', data)], { env });
    t.is(stdout, printed);
  }
});

test.serial('the types of the package are complete', async (t) => {
  if (python === undefined) return t.pass();
  const words = ['-m', 'mypy', '--config-file', path.join(client, 'pyproject.toml'), '--cache-dir', path.join(folder, 'mypy')];
  await t.notThrowsAsync(run(python.executable, [...words, path.join(client, 'kura')], { env: { PYTHONPATH: python.testPackages } }));
});

test.serial('the tests of the package pass', async (t) => {
  t.timeout(5 * 60_000);
  if (python === undefined) return t.pass();
  const certificates = await temporaryFolder(t);
  for (const name of ['own', 'other'])
    await writeCertificate(path.join(certificates, name), { authority: await createAuthority(name), name: 'kura' });
  const settings = ['-c', path.join(client, 'pyproject.toml'), '--rootdir', client];
  const pytest = run(python.executable, ['-m', 'pytest', ...settings, '-rs', '--durations=5', path.join(client, 'tests')], {
    cwd: folder, // In the folder of the package, Python would take the sources instead of the wheel.
    env: {
      PATH: process.env.PATH,
      PYTHONPATH: python.testPackages,
      PYTHONDONTWRITEBYTECODE: '1',
      KURA_TEST_LOCAL: path.join(system.stateDirectory, 'local.json'),
      KURA_TEST_ORIGIN: path.join(folder, 'origin'),
      KURA_TEST_TLS: certificates,
      KURA_TEST_VECTORS: path.join(root, 'test', 'vectors', 'names.json'),
    },
    timeout: 4 * 60_000,
  });
  const output = await pytest.then(
    ({ stdout }) => stdout,
    (error: Error & { stdout: string }) => t.fail(`${error.stdout}\n${error.message}`) && '',
  );
  t.log(output);
  t.notRegex(output, /SKIPPED/);

  t.true((await shardMetric(system, 'kura_cache_tickets_total', 'used')) > 0);
  t.is(await shardMetric(system, 'kura_cache_tickets_total', 'refused'), 0);
});
