import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { metric, startTestShard, type TestShard } from '../support/shard.ts';

const put = (shard: TestShard, key: string, body: Buffer) =>
  call(shard.url, { method: 'PUT', path: `/objects/${key}`, body, headers: { 'content-length': body.length } });
const range = (shard: TestShard, from: number) =>
  call(shard.url, { path: '/objects/zip', headers: { range: `bytes=${from}-${from + 99}` } });

test('the first read of each block of a large object goes through the thread pool, later ones do not', async (t) => {
  const first = await startTestShard(t);
  const block = 256 * 1024;
  const body = randomBytes(40 * block);
  t.is((await put(first, 'zip', body)).status, 201);
  await first.close();
  const shard = await startTestShard(t, { directory: first.directory });
  await waitFor('all is counted', async () => (await metric(shard, 'kura_cache_recovered_ratio')) === 1);
  const reads = async () => ({
    now: await metric(shard, 'kura_cache_synchronous_reads_total'),
    pool: await metric(shard, 'kura_cache_pooled_reads_total'),
  });
  const order = Array.from({ length: 40 }, (_, at) => (at * 7) % 40);
  for (const at of order) {
    const part = await range(shard, at * block + 1000);
    t.true(part.status === 206 && part.body.equals(body.subarray(at * block + 1000, at * block + 1100)));
  }
  t.deepEqual(await reads(), { now: 0, pool: 40 });
  for (const at of order) t.is((await range(shard, at * block + 5000)).status, 206);
  t.deepEqual(await reads(), { now: 40, pool: 40 });
});

test('a warm body of 1 MiB, and a warm range over several blocks, take one synchronous read', async (t) => {
  const shard = await startTestShard(t);
  const body = randomBytes(1024 * 1024);
  t.is((await put(shard, 'a', body)).status, 201);
  const reads = () => metric(shard, 'kura_cache_synchronous_reads_total');
  t.true((await call(shard.url, { path: '/objects/a' })).body.equals(body));
  t.is(await reads(), 0);
  t.true((await call(shard.url, { path: '/objects/a' })).body.equals(body));
  t.is(await reads(), 1);
  const part = await call(shard.url, { path: '/objects/a', headers: { range: 'bytes=100000-900000' } });
  t.true(part.body.equals(body.subarray(100_000, 900_001)));
  t.is(await reads(), 2);
});

test('the scrub does not change recency: after it, objects that were read stay, and the others are evicted', async (t) => {
  const first = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '32Mi' } });
  for (let at = 0; at < 56; at += 1) await put(first, `set/${at}`, randomBytes(500_000));
  await first.close();
  await rm(path.join(first.directory, 'snapshot'), { force: true });
  const shard = await startTestShard(t, {
    directory: first.directory,
    environment: { KURA_CACHE_MAX_BYTES: '32Mi', KURA_CACHE_SCRUB: '500Mi' },
  });
  await waitFor('all is counted', async () => (await metric(shard, 'kura_cache_recovered_ratio')) === 1);
  for (let at = 0; at < 20; at += 1) t.is((await call(shard.url, { path: `/objects/set/${at}` })).status, 200);
  await waitFor('the scrub has passed', async () => (await metric(shard, 'kura_cache_scrubbed_objects_total')) >= 36);
  for (let at = 0; at < 20; at += 1) await put(shard, `new/${at}`, randomBytes(500_000));
  for (let at = 0; at < 20; at += 1) t.is((await call(shard.url, { path: `/objects/set/${at}` })).status, 200, `set/${at}`);
});
