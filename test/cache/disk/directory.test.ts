import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { pino } from 'pino';
import { startShard } from '../../../services/cache/shard.ts';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { startCacheProcess } from '../support/process.ts';
import { metric, shardSettings, startTestShard, type TestShard, temporaryDirectory } from '../support/shard.ts';

const start = (directory: string, environment: Record<string, string> = {}) =>
  startShard(shardSettings(directory, environment), pino({ level: 'silent' }));
const put = (shard: TestShard, key: string, body: Buffer) =>
  call(shard.url, { method: 'PUT', path: `/objects/${key}`, body, headers: { 'content-length': body.length } });

test('a second process does not start on a directory, until kill -9 of the first process', async (t) => {
  const directory = await temporaryDirectory(t);
  const first = await startCacheProcess(t, { KURA_CACHE_DIRECTORY: directory });
  await t.throwsAsync(start(directory), { code: 'DIRECTORY', message: /another process serves/ });
  first.child.kill('SIGKILL');
  await first.ended;
  const second = await start(directory, { KURA_CACHE_NAME: 'x' });
  await second.close();
});

test('a shard that needs a marker starts only on a directory with it, and creates nothing without it', async (t) => {
  const directory = path.join(await temporaryDirectory(t), 'disk');
  const environment = { KURA_CACHE_MARKER: '.kura-disk' };
  const refusal = {
    code: 'DIRECTORY',
    message: /disk has no file \.kura-disk \(ENOENT\): its disk is probably not mounted; mount it, or /,
  };
  await t.throwsAsync(start(directory, environment), refusal);
  t.false(existsSync(directory));
  await mkdir(directory);
  await t.throwsAsync(start(directory, environment), refusal);
  t.deepEqual(await readdir(directory), []);
  await writeFile(path.join(directory, '.kura-disk'), '');
  await (await start(directory, environment)).close();
});

test('a shard whose disk is unmounted does not create its folders again', async (t) => {
  const directory = await temporaryDirectory(t);
  await writeFile(path.join(directory, '.kura-disk'), '');
  const shard = await startTestShard(t, { directory, environment: { KURA_CACHE_MARKER: '.kura-disk' } });
  const body = randomBytes(1000);
  t.is((await put(shard, 'x', body)).status, 201);
  const away = `${directory}-away`;
  await rename(directory, away);
  t.teardown(() => rm(away, { recursive: true, force: true }));
  await mkdir(directory);
  t.is((await put(shard, 'y', body)).status, 507);
  t.deepEqual(await readdir(directory), []);
  await rm(directory, { recursive: true });
  await rename(away, directory);
  await waitFor('the disk is back', async () => (await put(shard, 'y', body)).status === 201);
});

test('a shard does not start on a directory of another shard, of another format version, or with a damaged identity', async (t) => {
  const directory = await temporaryDirectory(t);
  await (await start(directory, { KURA_CACHE_NAME: 'kura-cache-0/shard-0' })).close();
  await t.throwsAsync(start(directory, { KURA_CACHE_NAME: 'kura-cache-1/shard-0' }), {
    code: 'DIRECTORY',
    message: /belongs to shard kura-cache-0\/shard-0/,
  });
  const file = path.join(directory, 'kura-cache.json');
  const identity = await readFile(file, 'utf8');
  await writeFile(file, identity.replace('"form":1', '"form":9'));
  await t.throwsAsync(start(directory), { code: 'DIRECTORY', message: /has format version 9/ });
  await writeFile(file, identity.slice(0, 20));
  await t.throwsAsync(start(directory), { code: 'DIRECTORY', message: /is not readable/ });
});

test('recency survives a restart', async (t) => {
  const environment = { KURA_CACHE_MAX_BYTES: '32Mi' };
  const first = await startTestShard(t, { environment });
  for (let at = 0; at < 20; at += 1) await put(first, `set/${at}`, randomBytes(1_000_000));
  await call(first.url, { path: '/objects/set/0' });
  await first.close();
  const second = await startTestShard(t, { directory: first.directory, environment });
  await waitFor('all is counted', async () => (await metric(second, 'kura_cache_recovered_ratio')) === 1);
  for (let at = 100; at < 112; at += 1) await put(second, `set/${at}`, randomBytes(1_000_000));
  t.is((await call(second.url, { path: '/objects/set/0' })).status, 200, 'read last before the restart');
  t.is((await call(second.url, { path: '/objects/set/1' })).status, 404, 'the oldest before the restart');
});

test('a damaged snapshot loses only recency', async (t) => {
  const first = await startTestShard(t);
  for (let at = 0; at < 20; at += 1) await put(first, `set/${at}`, randomBytes(1000));
  await first.close();
  const snapshot = path.join(first.directory, 'snapshot');
  const bytes = await readFile(snapshot);
  for (const damage of [
    () => writeFile(snapshot, randomBytes(300_000)),
    () => truncate(snapshot, 100),
    () => writeFile(snapshot, Buffer.concat([Buffer.from('x'), bytes.subarray(1)])),
  ]) {
    await damage();
    const shard = await startTestShard(t, { directory: first.directory });
    await waitFor('all is counted', async () => (await metric(shard, 'kura_cache_recovered_ratio')) === 1);
    t.is(await metric(shard, 'kura_cache_objects'), 20);
    for (let at = 0; at < 20; at += 1) t.is((await call(shard.url, { path: `/objects/set/${at}` })).status, 200);
    await shard.close();
  }
});

test('an unknown setting stops the process with one line that names it', async (t) => {
  const error = await t.throwsAsync(startCacheProcess(t, { KURA_CACHE_DIRECTORY: '/nowhere', KURA_CACHE_MAX_BITES: '1' }));
  t.regex(error?.message ?? '', /ended with 2: KURA_CACHE_MAX_BITES is not a setting; known are .*\n$/);
});
