/** A disk that fails, hangs, or was changed by hand: the shard answers all other requests, and its metrics match the disk. */
import { randomBytes } from 'node:crypto';
import { readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { FileReader } from '../../services/cache/disk/file-reader.ts';
import { FileWriter } from '../../services/cache/disk/file-writer.ts';
import { type Files, systemFiles } from '../../services/cache/disk/files.ts';
import { timeBudget } from '../../services/cache/disk/time-budget.ts';
import { type Answer, call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { ask } from './datasets/support/console.ts';
import { fileOf, storedBytes } from './support/disk.ts';
import { startFileReader } from './support/file-reader.ts';
import { metric, startTestShard, type TestShard, temporaryDirectory } from './support/shard.ts';

const fault = (code: string) => Object.assign(new Error(code), { code });
const put = (shard: TestShard, key: string, body: Buffer) =>
  call(shard.url, { method: 'PUT', path: `/objects/${key}`, body, headers: { 'content-length': body.length } });
const get = (shard: TestShard, key: string) => call(shard.url, { path: `/objects/${key}` });
const health = async (shard: TestShard) => (await call(shard.url, { path: '/healthz' })).status;

/** Whether the room in the metrics equals the files on the disk. */
async function metricsMatchDisk(shard: TestShard): Promise<boolean> {
  if ((await metric(shard, 'kura_cache_reserved_bytes')) !== 0) return false;
  return (await metric(shard, 'kura_cache_stored_bytes')) === (await storedBytes(shard.directory));
}

/** Real files whose calls hang or fail while `state` demands it. */
function switchable({ writer, reader }: { writer?: FileWriter; reader?: FileReader | undefined } = {}) {
  const state = {
    unlinkFails: undefined as string | undefined,
    writeFails: undefined as string | undefined,
    hangs: new Set<keyof Files>(),
  };
  const waiting: (() => void)[] = [];
  const gate = async (name: keyof Files): Promise<void> => {
    if (state.hangs.has(name)) await new Promise<void>((resolve) => waiting.push(resolve));
  };
  const writeWhole: Files['writeWhole'] = async (...file) => {
    await gate('rename');
    return (await writer?.write(...file)) ?? false;
  };
  const unlinkSmall: Files['unlinkSmall'] = async (file) => {
    await gate('unlink');
    return (await writer?.remove(file)) ?? false;
  };
  const readWhole: Files['readWhole'] = async (...file) => {
    await gate('open');
    await gate('read');
    return await reader?.read(...file);
  };
  const files: Files = {
    ...systemFiles,
    ...(reader === undefined ? {} : { readWhole }),
    ...(writer === undefined ? {} : { writeWhole, unlinkSmall }),
    open: async (file, flags, mode) => {
      await gate('open');
      if (state.writeFails !== undefined && flags !== 'r') throw fault(state.writeFails);
      return systemFiles.open(file, flags, mode);
    },
    read: async (...args) => {
      await gate('read');
      return systemFiles.read(...args);
    },
    write: async (...args) => {
      await gate('write');
      return systemFiles.write(...args);
    },
    rename: async (from, to) => {
      await gate('rename');
      return systemFiles.rename(from, to);
    },
    unlink: async (file) => {
      await gate('unlink');
      if (state.unlinkFails !== undefined) throw fault(state.unlinkFails);
      return systemFiles.unlink(file);
    },
  };
  const release = () => {
    state.hangs.clear();
    for (const resume of waiting.splice(0)) resume();
  };
  return { state, files, release };
}

/** Where small files are written and read. */
const places = [
  { name: 'thread pool', start: () => ({}) },
  {
    name: 'threads',
    start: (t: ExecutionContext) => {
      const writer = new FileWriter({ onFail: (error) => t.fail(String(error)) });
      t.teardown(() => writer.close());
      return { writer, reader: startFileReader(t) };
    },
  },
];

test('while every unlink fails, no object is lost; afterwards the shard evicts as before', async (t) => {
  const { state, files } = switchable();
  const shard = await startTestShard(t, { files, environment: { KURA_CACHE_MAX_BYTES: '32Mi' } });
  const body = randomBytes(500_000);
  for (let at = 0; at < 58; at += 1) t.is((await put(shard, `a/${at}`, body)).status, 201);
  await waitFor('the headroom is free', async () => (await metric(shard, 'kura_cache_reserved_bytes')) === 0);
  const before = await metric(shard, 'kura_cache_objects');
  state.unlinkFails = 'EIO';
  for (let at = 0; at < 30; at += 1) await put(shard, `b/${at}`, body);
  t.true((await metric(shard, 'kura_cache_objects')) >= before, 'rows of files that could not be removed are restored');
  for (let at = 57; at > 40; at -= 1) await waitFor(`a/${at} is served`, async () => (await get(shard, `a/${at}`)).status === 200);
  state.unlinkFails = undefined;
  await waitFor('the shard serves and stores again', async () => {
    const answer = await put(shard, 'c/1', body);
    return (await health(shard)) === 200 && answer.status === 201 && answer.headers['x-kura-stored'] === undefined;
  });
  t.is((await get(shard, 'c/1')).status, 200);
  await waitFor('the metrics match the disk', () => metricsMatchDisk(shard));
});

test('a DELETE that fails on the disk is 507, and the object stays', async (t) => {
  const { state, files } = switchable();
  const shard = await startTestShard(t, { files });
  await put(shard, 'a', randomBytes(1000));
  state.unlinkFails = 'EACCES';
  const answer = await call(shard.url, { method: 'DELETE', path: '/objects/a' });
  t.deepEqual([answer.status, JSON.parse(answer.body.toString()).code], [507, 'disk-fault']);
  t.is((await get(shard, 'a')).status, 200);
  state.unlinkFails = undefined;
  t.is((await call(shard.url, { method: 'DELETE', path: '/objects/a' })).status, 204);
  await waitFor('the metrics match the disk', () => metricsMatchDisk(shard));
});

test('the room of a reader counts although an earlier removal of its object has failed', async (t) => {
  const { state, files } = switchable();
  const shard = await startTestShard(t, { files });
  const body = randomBytes(40_000_000);
  await put(shard, 'a', body);
  const reading = await fetch(`${shard.url}/objects/a`);
  state.unlinkFails = 'EIO';
  t.is((await call(shard.url, { method: 'DELETE', path: '/objects/a' })).status, 507);
  state.unlinkFails = undefined;
  t.true((await get(shard, 'a')).body.equals(body));
  t.is(await metric(shard, 'kura_cache_reserved_bytes'), 0);
  t.is((await call(shard.url, { method: 'DELETE', path: '/objects/a' })).status, 204);
  t.true((await metric(shard, 'kura_cache_reserved_bytes')) >= body.length, 'the room counts until the reader has ended');
  t.true(Buffer.from(await reading.arrayBuffer()).equals(body));
  await waitFor('the metrics match the disk', () => metricsMatchDisk(shard));
});

for (const place of places)
  test(`${place.name}: a hung disk causes a miss or 507 in time, takes the shard out of service, and brings it back`, async (t) => {
    const { state, files, release } = switchable(place.start(t));
    const shard = await startTestShard(t, { files, budget: timeBudget, environment: { KURA_CACHE_OPEN_FILES: '0' } });
    for (let at = 0; at < 20; at += 1) await put(shard, `k${at}`, randomBytes(100_000));
    for (const name of ['open', 'read', 'write', 'rename', 'unlink'] as const) state.hangs.add(name);
    const gets = await Promise.all(Array.from({ length: 20 }, (_, at) => get(shard, `k${at}`)));
    const puts = await Promise.all([put(shard, 'new', randomBytes(1000)), put(shard, 'k1', randomBytes(400_000))]);
    const remove = await call(shard.url, { method: 'DELETE', path: '/objects/k2' });
    const summary = (answers: Answer[]) => answers.map(({ status }) => status);
    t.deepEqual(summary(gets), Array(20).fill(404));
    t.deepEqual(summary([...puts, remove]), [507, 507, 507]);
    t.true(Math.max(...gets.map(({ tookMs }) => tookMs)) < 3_000);
    t.true(Math.max(...[...puts, remove].map(({ tookMs }) => tookMs)) < 3_000);
    await waitFor('the shard is out of service', async () => (await health(shard)) === 503);
    t.true((await metric(shard, 'kura_cache_pending_file_calls')) > 0);
    release();
    await waitFor('the shard is back in service', async () => (await health(shard)) === 200);
    await waitFor('nothing is pending', async () => (await metric(shard, 'kura_cache_pending_file_calls')) === 0);
    await waitFor('the metrics match the disk', () => metricsMatchDisk(shard));
    t.is((await get(shard, 'new')).status, 404, 'an object with the response 507 is not stored');
    // A busy machine may need longer than the budget once.
    await waitFor('an object is read', async () => (await get(shard, 'k5')).status === 200);
    await waitFor('an object is stored', async () => (await put(shard, 'new', randomBytes(1000))).status === 201);
  });

for (const place of places)
  test(`${place.name}: a late commit is undone: the key has neither the new nor the replaced object`, async (t) => {
    const { state, files, release } = switchable(place.start(t));
    const shard = await startTestShard(t, { files, budget: timeBudget });
    await put(shard, 'a', randomBytes(1000));
    state.hangs.add('rename');
    t.is((await put(shard, 'a', randomBytes(2000))).status, 507);
    release();
    await waitFor('the late object is removed', async () => (await get(shard, 'a')).status === 404 && (await metricsMatchDisk(shard)));
    await waitFor('an object is stored', async () => (await put(shard, 'a', randomBytes(3000))).status === 201);
    await waitFor('it is read', async () => (await get(shard, 'a')).body.length === 3000);
  });

test('on a read-only file system GETs are served, uploads are rejected at once, and the shard stays in service', async (t) => {
  const { state, files } = switchable();
  const shard = await startTestShard(t, { files });
  await put(shard, 'a', randomBytes(1000));
  state.writeFails = 'EROFS';
  state.unlinkFails = 'EROFS';
  for (let at = 0; at < 12; at += 1) {
    const answer = await put(shard, `b${at}`, randomBytes(1000));
    t.is(answer.status, 507);
    t.is(answer.headers['retry-after'], '1');
  }
  t.is(JSON.parse((await put(shard, 'c', randomBytes(10))).body.toString()).code, 'read-only');
  t.is((await get(shard, 'a')).status, 200);
  t.is(await health(shard), 200);
  state.writeFails = undefined;
  state.unlinkFails = undefined;
  await waitFor('uploads succeed again', async () => (await put(shard, 'c', randomBytes(10))).status === 201);
});

test('folders that were removed by hand are created again', async (t) => {
  const shard = await startTestShard(t);
  await put(shard, 'a', randomBytes(1000));
  await rm(path.join(shard.directory, 'temporary'), { recursive: true });
  for (const folder of await readdir(path.join(shard.directory, 'objects'))) {
    await rm(path.join(shard.directory, 'objects', folder), { recursive: true });
  }
  // 507 until the folders are created.
  t.true([201, 507].includes((await put(shard, 'b', randomBytes(1000))).status));
  await waitFor('uploads succeed again', async () => (await put(shard, 'b', randomBytes(1000))).status === 201);
  t.is((await get(shard, 'b')).status, 200);
  t.is((await get(shard, 'a')).status, 404);
});

test('with more files than the limit and uploads during recovery, no file lacks a row and no count is negative', async (t) => {
  const first = await startTestShard(t);
  for (let from = 0; from < 3000; from += 50)
    await Promise.all(Array.from({ length: 50 }, (_, at) => put(first, `old/${from + at}`, randomBytes(100))));
  await first.close();
  await rm(path.join(first.directory, 'snapshot'), { force: true });
  const shard = await startTestShard(t, { directory: first.directory, environment: { KURA_CACHE_MAX_OBJECTS: '500' } });
  let written = 0;
  await Promise.all(
    Array.from({ length: 8 }, async (_, writer) => {
      while ((await metric(shard, 'kura_cache_recovered_ratio')) < 1) {
        const answer = await put(shard, `new/${writer}/${written++}`, randomBytes(100));
        t.true([201, 507].includes(answer.status));
        t.true((await metric(shard, 'kura_cache_reserved_bytes')) >= 0);
      }
    }),
  );
  await waitFor(
    'the limit holds and the metrics match the disk',
    async () => (await metric(shard, 'kura_cache_objects')) <= 500 && (await metricsMatchDisk(shard)),
  );
  t.is(await health(shard), 200);
  t.is(await metric(shard, 'kura_cache_disk_errors_total'), 0);
});

test('no removed object returns after a restart, although recovery could not remove files above the limit at first', async (t) => {
  const first = await startTestShard(t);
  for (let at = 0; at < 200; at += 1) await put(first, `set/${at}`, randomBytes(100));
  await first.close();
  await rm(path.join(first.directory, 'snapshot'));
  const { state, files } = switchable();
  state.unlinkFails = 'EIO';
  const shard = await startTestShard(t, { directory: first.directory, files, environment: { KURA_CACHE_MAX_OBJECTS: '64' } });
  const { status, json } = await ask(shard, '/datasets?prefix=set%2F', { method: 'DELETE' });
  t.is(status, 202);
  await waitFor('the last folder is scanned', async () => (await metric(shard, 'kura_cache_recovered_ratio')) >= 255 / 256);
  t.true((await metric(shard, 'kura_cache_disk_errors_total', 'kind="write"')) > 0);
  state.unlinkFails = undefined;
  await waitFor('the removal ends', async () => (await ask(shard, `/datasets/removal?id=${json.removal}`)).json.state === 'done');
  await shard.close();
  const next = await startTestShard(t, { directory: first.directory });
  await waitFor('all is counted', async () => (await metric(next, 'kura_cache_recovered_ratio')) === 1);
  t.is(await metric(next, 'kura_cache_objects'), 0);
});

test('a shard does not start on a directory with objects but without its identity file', async (t) => {
  const first = await startTestShard(t);
  await put(first, 'a', randomBytes(1000));
  await first.close();
  await rm(path.join(first.directory, 'kura-cache.json'));
  await t.throwsAsync(startTestShard(t, { directory: first.directory }), { message: /has objects but no kura-cache\.json/ });
});

test('a folder that cannot be read is scanned again, and its objects are found', async (t) => {
  const directory = await temporaryDirectory(t);
  const first = await startTestShard(t, { directory });
  for (let at = 0; at < 40; at += 1) await put(first, `a/${at}`, randomBytes(1000));
  await first.close();
  await rm(path.join(directory, 'snapshot'), { force: true });
  // A file in place of a folder fails like a folder that the disk cannot read.
  const folder = path.dirname(await fileOf(directory, 'a/7'));
  await rename(folder, `${folder}.away`);
  const shard = await startTestShard(t, { directory });
  await rm(folder, { recursive: true });
  await writeFile(folder, '');
  await waitFor('the other folders are counted', async () => (await metric(shard, 'kura_cache_disk_errors_total')) > 0);
  t.true((await metric(shard, 'kura_cache_recovered_ratio')) < 1);
  await rm(folder);
  await rename(`${folder}.away`, folder);
  await waitFor('all is counted', async () => (await metric(shard, 'kura_cache_recovered_ratio')) === 1);
  for (let at = 0; at < 40; at += 1) await waitFor(`a/${at} is served`, async () => (await get(shard, `a/${at}`)).status === 200);
});

test('a file with the name of another key is removed when it is read', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_OPEN_FILES: '0' } });
  for (const key of ['a', 'b']) await put(shard, key, randomBytes(5000));
  const [a, b] = [await fileOf(shard.directory, 'a'), await fileOf(shard.directory, 'b')];
  await rm(a);
  await rename(b, a);
  t.is((await get(shard, 'a')).status, 404);
  await waitFor('the wrong file is gone', async () => (await metric(shard, 'kura_cache_corrupt_objects_total')) === 1);
  await waitFor('the metrics match the disk', async () => (await get(shard, 'b')).status === 404 && (await metricsMatchDisk(shard)));
});
