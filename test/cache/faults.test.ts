import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { type Files, systemFiles } from '../../services/cache/disk/files.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { directoryBytes, fileOf, flipBit, storedBytes } from './support/disk.ts';
import { startCacheProcess } from './support/process.ts';
import { metric, startTestShard, type TestShard, temporaryDirectory } from './support/shard.ts';

const fault = (code: string) => Object.assign(new Error(code), { code });
const put = (shard: TestShard, key: string, body: Buffer) =>
  call(shard.url, { method: 'PUT', path: `/objects/${key}`, body, headers: { 'content-length': body.length } });
const get = (shard: TestShard, key: string) => call(shard.url, { path: `/objects/${key}` });

test('a flipped bit never reaches a client in a whole response: a small object is a miss, a large one a broken transfer', async (t) => {
  const shard = await startTestShard(t);
  const bodies = { small: randomBytes(100_000), large: randomBytes(2_000_000) };
  for (const [name, body] of Object.entries(bodies))
    for (const place of ['first', 'last', 'trailer']) await put(shard, `${name}/${place}`, body);
  for (const [name, body] of Object.entries(bodies)) {
    await flipBit(await fileOf(shard.directory, `${name}/first`), 10);
    await flipBit(await fileOf(shard.directory, `${name}/last`), body.length - 10);
    const trailerFile = await fileOf(shard.directory, `${name}/trailer`);
    await flipBit(trailerFile, (await stat(trailerFile)).size - 30);
  }
  for (const key of ['small/first', 'small/last', 'small/trailer', 'large/first', 'large/trailer'])
    t.is((await get(shard, key)).status, 404, key);
  const broken = await get(shard, 'large/last');
  t.deepEqual([broken.status, broken.complete], [200, false]);
  await waitFor('it is dropped', async () => (await get(shard, 'large/last')).status === 404);
  t.is(await metric(shard, 'kura_cache_corrupt_objects_total'), 6);
  t.is(await metric(shard, 'kura_cache_objects'), 0);
  await waitFor(
    'the room is freed',
    async () => (await metric(shard, 'kura_cache_stored_bytes')) === 0 && (await storedBytes(shard.directory)) === 0,
  );
});

test('a range of a damaged block is a miss, a range of an undamaged block is served', async (t) => {
  const shard = await startTestShard(t);
  const body = randomBytes(1_000_000);
  await put(shard, 'a', body);
  await flipBit(await fileOf(shard.directory, 'a'), 300_000);
  const good = await call(shard.url, { path: '/objects/a', headers: { range: 'bytes=600000-600099' } });
  t.true(good.status === 206 && good.body.equals(body.subarray(600_000, 600_100)));
  t.is((await call(shard.url, { path: '/objects/a', headers: { range: 'bytes=262200-262210' } })).status, 404);
});

test('truncated, empty and swapped files are misses after a restart, other files stay unchanged', async (t) => {
  const first = await startTestShard(t);
  for (const key of ['cut', 'empty', 'one', 'two', 'good']) await put(first, key, randomBytes(50_000));
  const file = (key: string) => fileOf(first.directory, key);
  await first.close();
  await truncate(await file('cut'), 20_000);
  await truncate(await file('empty'), 0);
  const [one, two, stray] = [await file('one'), await file('two'), path.join(first.directory, 'objects', '00', 'notes.txt')];
  await rename(one, `${one}.x`);
  await rename(two, one);
  await rename(`${one}.x`, two);
  await writeFile(stray, 'mine');
  await mkdir(path.join(first.directory, 'objects', 'ff', 'ff'.repeat(12)));
  const shard = await startTestShard(t, { directory: first.directory });
  await waitFor('all is counted', async () => (await metric(shard, 'kura_cache_recovered_ratio')) === 1);
  for (const key of ['cut', 'empty', 'one', 'two']) t.is((await get(shard, key)).status, 404, key);
  t.is((await get(shard, 'good')).body.length, 50_000);
  t.is(await metric(shard, 'kura_cache_foreign_files'), 2);
  t.is((await stat(stray)).size, 4);
});

test('the scrub finds a damaged object that nobody reads', async (t) => {
  const first = await startTestShard(t);
  for (const key of ['a', 'b']) await put(first, key, randomBytes(600_000));
  await first.close();
  await flipBit(await fileOf(first.directory, 'a'), 400_000);
  const shard = await startTestShard(t, { directory: first.directory, environment: { KURA_CACHE_SCRUB: '100Mi' } });
  await waitFor(
    'the scrub has checked both objects',
    async () =>
      (await metric(shard, 'kura_cache_corrupt_objects_total')) === 1 && (await metric(shard, 'kura_cache_scrubbed_objects_total')) === 2,
  );
  t.is((await get(shard, 'a')).status, 404);
  t.is((await get(shard, 'b')).status, 200);
});

test('a disk with read errors causes misses, takes the shard out of service, and brings it back', async (t) => {
  let isFailing = false;
  const files: Files = {
    ...systemFiles,
    open: (file, flags, mode) => (isFailing && flags === 'r' ? Promise.reject(fault('EIO')) : systemFiles.open(file, flags, mode)),
  };
  const shard = await startTestShard(t, { files, environment: { KURA_CACHE_OPEN_FILES: '0' } });
  for (let at = 0; at < 10; at += 1) await put(shard, `k${at}`, randomBytes(1000));
  isFailing = true;
  for (let at = 0; at < 10; at += 1) t.is((await get(shard, `k${at}`)).status, 404);
  t.is((await call(shard.url, { path: '/healthz' })).status, 503);
  t.is((await call(shard.metricsUrl, { path: '/readyz' })).status, 503);
  t.is(await metric(shard, 'kura_cache_disk_errors_total', 'kind="read"'), 10);
  isFailing = false;
  await waitFor('the shard serves again', async () => (await call(shard.url, { path: '/healthz' })).status === 200);
  t.is((await get(shard, 'k3')).status, 200);
});

test('without free descriptors a GET is a miss, a PUT is 507, and the process continues', async (t) => {
  let isFailing = false;
  const files: Files = {
    ...systemFiles,
    open: (file, flags, mode) => (isFailing ? Promise.reject(fault('EMFILE')) : systemFiles.open(file, flags, mode)),
  };
  const shard = await startTestShard(t, { files, environment: { KURA_CACHE_OPEN_FILES: '0' } });
  await put(shard, 'a', randomBytes(1000));
  isFailing = true;
  t.is((await get(shard, 'a')).status, 404);
  t.is((await put(shard, 'b', randomBytes(1000))).status, 507);
  isFailing = false;
  t.is((await get(shard, 'a')).status, 200);
  t.is((await put(shard, 'b', randomBytes(1000))).status, 201);
  // The probe of the disk may have failed too.
  t.true((await metric(shard, 'kura_cache_disk_errors_total', 'kind="descriptors"')) >= 2);
});

test('a failed write or rename changes neither the used room nor the old object', async (t) => {
  const failing = new Set<string>();
  const fail = <T>(name: string, work: () => Promise<T>) => (failing.has(name) ? Promise.reject<T>(fault('EIO')) : work());
  const files: Files = {
    ...systemFiles,
    write: (...given) => fail('write', () => systemFiles.write(...given)),
    rename: (...given) => fail('rename', () => systemFiles.rename(...given)),
  };
  const shard = await startTestShard(t, { files });
  const old = randomBytes(300_000);
  await put(shard, 'a', old);
  const before = await metric(shard, 'kura_cache_used_bytes');
  for (const name of ['write', 'rename']) {
    failing.add(name);
    const answer = await put(shard, 'a', randomBytes(900_000));
    t.deepEqual([answer.status, JSON.parse(answer.body.toString()).code], [507, 'disk-fault'], name);
    failing.delete(name);
    t.true((await get(shard, 'a')).body.equals(old));
  }
  await waitFor('all room is freed', async () => (await metric(shard, 'kura_cache_used_bytes')) === before);
  await waitFor('no temporary file is left', async () => (await readdir(path.join(shard.directory, 'temporary'))).length === 0);
});

/** Writes beyond this number of bytes fail with ENOSPC, as on a file system that another program fills. */
function smallDisk(sizeBytes: number): Files {
  let usedBytes = 0;
  const sizes = new Map<string, number>();
  const paths = new Map<number, string>();
  return {
    ...systemFiles,
    open: async (file, flags, mode) => {
      const fd = await systemFiles.open(file, flags, mode);
      if (flags === 'wx') paths.set(fd, file);
      return fd;
    },
    write: async (fd, buffer, length, position) => {
      if (usedBytes + length > sizeBytes) throw fault('ENOSPC');
      usedBytes += length;
      const file = paths.get(fd) as string;
      sizes.set(file, (sizes.get(file) ?? 0) + length);
      return systemFiles.write(fd, buffer, length, position);
    },
    rename: async (from, to) => {
      await systemFiles.rename(from, to);
      usedBytes -= sizes.get(to) ?? 0;
      sizes.set(to, sizes.get(from) ?? 0);
      sizes.delete(from);
    },
    unlink: async (file) => {
      await systemFiles.unlink(file);
      usedBytes -= sizes.get(file) ?? 0;
      sizes.delete(file);
    },
  };
}

test('a file system that is full below the limit causes some 507, and then the shard frees room', async (t) => {
  const shard = await startTestShard(t, { files: smallDisk(40_000_000), environment: { KURA_CACHE_MAX_BYTES: '1Gi' } });
  const statuses: number[] = [];
  for (let at = 0; at < 120; at += 1) statuses.push((await put(shard, `k${at}`, randomBytes(1_000_000))).status);
  t.true(statuses.includes(507));
  t.true(statuses.filter((status) => status === 201).length > 100, String(statuses));
  t.is((await get(shard, 'k119')).status, statuses[119] === 201 ? 200 : 404);
  t.true((await metric(shard, 'kura_cache_disk_errors_total', 'kind="full"')) > 0);
});

test('on a real small file system that is full below the limit, the shard continues to serve', async (t) => {
  const directory = await temporaryDirectory(t);
  // The mount needs a user namespace. If the system forbids it, the shard uses a folder and a lower limit.
  const probe = spawn('unshare', ['--user', '--map-root-user', '--mount', 'mount', '-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', directory]);
  const [status] = await once(probe, 'close');
  const mount =
    status === 0
      ? [
          'unshare',
          '--user',
          '--map-root-user',
          '--mount',
          'sh',
          '-c',
          `mount -t tmpfs -o size=48m,mode=700 tmpfs ${directory} && exec "$@"`,
          'sh',
        ]
      : [];
  const shard = await startCacheProcess(
    t,
    { KURA_CACHE_DIRECTORY: directory, KURA_CACHE_MAX_BYTES: status === 0 ? '1Gi' : '40Mi', KURA_CACHE_SCRUB: '0' },
    mount,
  );
  const url = `http://${shard.listening.objects}`;
  const statuses: number[] = [];
  for (let at = 0; at < 100; at += 1) {
    const body = randomBytes(900_000);
    const answer = await call(url, { method: 'PUT', path: `/objects/k${at}`, body, headers: { 'content-length': body.length } });
    statuses.push(answer.status);
    if (answer.status !== 201) continue;
    const read = await call(url, { path: `/objects/k${at}` });
    // On a busy machine, a read may be a miss after 0.5 s.
    t.true(read.status === 404 || read.body.equals(body), String(read.status));
  }
  t.true(
    statuses.every((each) => each === 201 || each === 507),
    String(statuses),
  );
  t.true(statuses.filter((each) => each === 201).length > 80, String(statuses));
  shard.child.kill('SIGTERM');
  t.is(await shard.ended, 0);
});

test('the limits hold on the disk at every instant under eight writers of mixed sizes', async (t) => {
  const limit = 24 * 1024 * 1024;
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '24Mi', KURA_CACHE_MAX_OBJECTS: '300' } });
  let isDone = false;
  const samples: number[] = [];
  const sample = async () => {
    while (!isDone) {
      samples.push(directoryBytes(shard.directory));
      t.true((await metric(shard, 'kura_cache_used_bytes')) <= limit);
      t.true((await metric(shard, 'kura_cache_objects')) <= 300);
    }
  };
  const sampling = sample();
  const sizes = [100, 5_000, 120_000, 900_000, 2_500_000];
  const writer = async (number: number) => {
    for (let at = 0; at < 60; at += 1) {
      const body = randomBytes(sizes[(at * 7 + number) % sizes.length] as number);
      // A commit on a busy machine may exceed its time limit. Then the response is 507, and the client retries.
      await waitFor('it is stored', async () => (await put(shard, `w${number}/${at % 40}`, body)).status === 201);
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, number) => writer(number)));
  isDone = true;
  await sampling;
  t.true(samples.length > 10);
  t.true(Math.max(...samples) <= limit, `${Math.max(...samples)} of ${limit}`);
  await waitFor(
    'the metrics match the disk',
    async () => (await metric(shard, 'kura_cache_stored_bytes')) === (await storedBytes(shard.directory)),
  );
});

test('an upload with a length above the limit is 413 and evicts nothing', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '32Mi' } });
  await put(shard, 'kept', randomBytes(1_000_000));
  const answer = await call(shard.url, {
    method: 'PUT',
    path: '/objects/huge',
    headers: { 'content-length': 64 * 1024 ** 3 },
    expect: true,
    body: 'x',
  });
  t.is(answer.status, 413);
  t.is((await get(shard, 'kept')).status, 200);
  t.is(await metric(shard, 'kura_cache_evicted_objects_total'), 0);
});

test('a large object that is replaced during a read stays whole for its reader and is freed afterwards', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '1Gi' } });
  const old = Buffer.alloc(150_000_000, 'a');
  await put(shard, 'big', old);
  const reading = get(shard, 'big');
  const next = Buffer.alloc(140_000_000, 'b');
  t.is((await put(shard, 'big', next)).status, 201);
  const read = await reading;
  t.true(read.complete && (read.body.equals(old) || read.body.equals(next)));
  t.true((await get(shard, 'big')).body.equals(next));
  await waitFor('the old version is freed', async () => (await metric(shard, 'kura_cache_reserved_bytes')) === 0);
  t.is(await storedBytes(shard.directory), await metric(shard, 'kura_cache_stored_bytes'));
});

test('an object that is removed during a read, with no spare descriptors, reaches its reader whole and is freed afterwards', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '1Gi', KURA_CACHE_OPEN_FILES: '0' } });
  const body = Buffer.alloc(150_000_000, 'a');
  await put(shard, 'big', body);
  for (const key of ['x', 'y', 'z']) await put(shard, key, randomBytes(1000));
  const reading = await fetch(`${shard.url}/objects/big`);
  for (const key of ['x', 'y', 'z']) await get(shard, key);
  t.is((await call(shard.url, { method: 'DELETE', path: '/objects/big' })).status, 204);
  t.is((await get(shard, 'big')).status, 404);
  t.true((await metric(shard, 'kura_cache_reserved_bytes')) >= body.length, 'the room counts until the reader has ended');
  t.true(Buffer.from(await reading.arrayBuffer()).equals(body));
  await waitFor('the room is freed', async () => (await metric(shard, 'kura_cache_reserved_bytes')) === 0);
});

test('recency and versions do not depend on the wall clock', async (t) => {
  const first = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '16Mi' } });
  await put(first, 'a', randomBytes(1000));
  await first.close();
  // As if the file was written a year in the future.
  const later = new Date(Date.now() + 365 * 86_400_000);
  await utimes(await fileOf(first.directory, 'a'), later, later);
  const shard = await startTestShard(t, { directory: first.directory, environment: { KURA_CACHE_MAX_BYTES: '16Mi' } });
  await waitFor('all is counted', async () => (await metric(shard, 'kura_cache_recovered_ratio')) === 1);
  const tags = new Set<string>();
  for (let at = 0; at < 5; at += 1) tags.add((await put(shard, 'b', Buffer.from('same'))).headers.etag as string);
  t.is(tags.size, 5);
  for (let at = 0; at < 30; at += 1) await put(shard, `k${at}`, randomBytes(900_000));
  t.is((await get(shard, 'a')).status, 404, 'the oldest is evicted first, independent of its file time');
  await rm(path.join(shard.directory, 'snapshot'), { force: true });
});
