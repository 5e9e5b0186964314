import { mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { parseAllDocuments } from 'yaml';
import { nodeFlags } from '../../services/shared/node-flags.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { startCacheProcess } from './support/process.ts';
import { temporaryDirectory } from './support/shard.ts';

test('each shard of a Pod serves its own directory, and a killed shard is restarted', async (t) => {
  const directory = await temporaryDirectory(t);
  const directories = [path.join(directory, 'a'), path.join(directory, 'b')];
  const pod = await startCacheProcess(t, {
    KURA_CACHE_SHARDS: '2',
    KURA_CACHE_DIRECTORIES: directories.join(','),
    KURA_CACHE_POD_LISTEN: '127.0.0.1:0',
    KURA_CACHE_LISTEN: '127.0.0.1:0',
    KURA_CACHE_NAME: 'kura-cache-7',
  });
  const urls = [0, 1].map((number) => `http://${pod.listening[`objects-${number}`]}`) as [string, string];
  const health = `http://${pod.listening.health}`;
  for (const [number, url] of urls.entries()) {
    const put = await call(url, { method: 'PUT', path: '/objects/a', body: `shard ${number}` });
    t.deepEqual([put.status, put.headers['x-kura-shard']], [201, `kura-cache-7/shard-${number}`]);
  }
  t.is((await call(health, { path: '/readyz' })).status, 200);
  const pid = await shardPid(pod.child.pid as number, directories[0] as string);
  const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
  t.deepEqual(words.slice(1, 1 + nodeFlags.length), [...nodeFlags]);
  process.kill(pid, 'SIGKILL');
  await waitFor('the killed shard is replaced', async () => (await shardPid(pod.child.pid as number, directories[0] as string)) !== pid);
  t.is((await call(urls[1], { path: '/objects/a' })).body.toString(), 'shard 1');
  t.regex(pod.output(), /a shard ended; restarting it/);
  pod.child.kill('SIGTERM');
  t.is(await pod.ended, 0);
});

test('the Pod is ready while at least one of its shards serves, and not while all of them hang', async (t) => {
  const directory = await temporaryDirectory(t);
  const pod = await startCacheProcess(t, {
    KURA_CACHE_SHARDS: '2',
    KURA_CACHE_DIRECTORY: directory,
    KURA_CACHE_POD_LISTEN: '127.0.0.1:0',
    KURA_CACHE_LISTEN: '127.0.0.1:0',
  });
  const isReady = async (): Promise<boolean> => (await call(`http://${pod.listening.health}`, { path: '/readyz' })).status === 200;
  const pids = await Promise.all([0, 1].map((number) => shardPid(pod.child.pid as number, path.join(directory, `shard-${number}`))));
  t.true(await isReady());
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  await waitFor('the Pod is not ready', async () => !(await isReady()));
  process.kill(pids[0] as number, 'SIGCONT');
  await waitFor('the Pod is ready again', isReady);
  process.kill(pids[1] as number, 'SIGCONT');
  pod.child.kill('SIGTERM');
  t.is(await pod.ended, 0);
});

test('a disk that is not mounted stops its own shard alone, which starts when the disk is there', async (t) => {
  const directory = await temporaryDirectory(t);
  const directories = [path.join(directory, 'a'), path.join(directory, 'b')] as const;
  await mkdir(directories[0]);
  await writeFile(path.join(directories[0], '.kura-disk'), '');
  const pod = await startCacheProcess(t, {
    KURA_CACHE_SHARDS: '2',
    KURA_CACHE_DIRECTORIES: directories.join(','),
    KURA_CACHE_MARKER: '.kura-disk',
    KURA_CACHE_POD_LISTEN: '127.0.0.1:0',
    KURA_CACHE_LISTEN: '127.0.0.1:0',
  });
  t.is((await call(`http://${pod.listening['objects-0']}`, { path: '/healthz' })).status, 200);
  t.is((await call(`http://${pod.listening.health}`, { path: '/readyz' })).status, 200);
  t.is(pod.listening['objects-1'], undefined);
  t.regex(pod.output(), /b has no file \.kura-disk \(ENOENT\): its disk is probably not mounted/);
  t.deepEqual(await readdir(directory), ['a']);
  await mkdir(directories[1]);
  await writeFile(path.join(directories[1], '.kura-disk'), '');
  await waitFor('the other shard starts', async () => (await shardPid(pod.child.pid as number, directories[1])) > 0);
  pod.child.kill('SIGTERM');
  t.is(await pod.ended, 0);
});

test('a directory that is listed twice stops the parent with one line', async (t) => {
  const directory = await temporaryDirectory(t);
  const directories = `${directory}/a,${directory}/a/`;
  const error = await t.throwsAsync(startCacheProcess(t, { KURA_CACHE_SHARDS: '2', KURA_CACHE_DIRECTORIES: directories }));
  t.regex(error?.message ?? '', /ended with 2: KURA_CACHE_DIRECTORIES has \S+\/a twice; set a different directory for each shard\n$/);
});

test('a wrong number of directories stops the parent with one line', async (t) => {
  const directory = await temporaryDirectory(t);
  await mkdir(path.join(directory, 'a'));
  const error = await t.throwsAsync(startCacheProcess(t, { KURA_CACHE_SHARDS: '2', KURA_CACHE_DIRECTORIES: directory }));
  t.regex(error?.message ?? '', /ended with 2: KURA_CACHE_DIRECTORIES has 1 directories for 2 shards; set one for each shard\n$/);
});

for (const [service, manifest] of [
  ['cache', 'k8s/base/cache.yaml'],
  ['origin', 'k8s/components/origin/origin.yaml'],
] as const)
  test(`${manifest} starts the service with the flags for bodies`, async (t) => {
    const documents = parseAllDocuments(await readFile(path.resolve(import.meta.dirname, '../..', manifest), 'utf8'));
    const containers = documents.flatMap((document) => document.toJS()?.spec?.template?.spec?.containers ?? []);
    const words = containers.map(({ args }: { args?: string[] }) => args);
    t.deepEqual(
      words.filter((args) => args?.includes(`services/${service}/main.ts`)),
      [[...nodeFlags, `services/${service}/main.ts`]],
    );
  });

/** The pid of the child of `parent` that holds the lock of a directory. */
async function shardPid(parent: number, directory: string): Promise<number> {
  return waitFor('the shard runs', async () => {
    const children = (await readFile(`/proc/${parent}/task/${parent}/children`, 'utf8')).trim().split(' ');
    for (const child of children) {
      for (const fd of await readdir(`/proc/${child}/fd`)) {
        const target = await readlink(`/proc/${child}/fd/${fd}`).catch(() => '');
        if (target === path.join(directory, 'lock')) return Number(child);
      }
    }
    return undefined;
  });
}
