import { cp, mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { get as httpGet, type IncomingMessage } from 'node:http';
import path from 'node:path';
import { Readable } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { FileWriter } from '../../../services/cache/disk/file-writer.ts';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { fileOf } from '../support/disk.ts';
import { HostileFiles } from '../support/hostile-files.ts';
import { startCacheProcess } from '../support/process.ts';
import { metric, startTestShard, type TestShard, temporaryDirectory } from '../support/shard.ts';
import { ask, asWriter, get, isCounted, put } from './support/console.ts';

async function remove(shard: { url: string }, prefix: string, before?: number) {
  const time = before === undefined ? '' : `&before=${before}`;
  return await ask(shard, `/datasets?prefix=${encodeURIComponent(prefix)}${time}`, { method: 'DELETE' });
}

/** Waits for the end of a removal. Returns its last state. */
async function ended(shard: { url: string }, id: string) {
  return await waitFor('the removal ends', async () => {
    const { json } = await ask(shard, `/datasets/removal?id=${id}`);
    return json.state === 'done' && json;
  });
}

async function statuses(shard: { url: string }, keys: readonly string[]): Promise<number[]> {
  const found: number[] = [];
  for (const key of keys) found.push(await get(shard, key));
  return [...new Set(found)];
}

const keysOf = (prefix: string, count: number) => Array.from({ length: count }, (_, at) => `${prefix}${at}`);

/** A shard on a copy of a directory: what a process finds after a kill at this time. */
async function startOnCopy(t: ExecutionContext, { directory }: TestShard): Promise<TestShard> {
  const copy = await temporaryDirectory(t);
  await cp(directory, copy, { recursive: true });
  return await startTestShard(t, { directory: copy });
}

test('a removal removes all objects under its prefix and no others, and later objects stay', async (t) => {
  const shard = await startTestShard(t);
  const [gone, deep, kept] = [keysOf('set/train/', 40), keysOf('set/a/b/c/d/e/', 10), keysOf('set2/train/', 5)];
  for (const key of [...gone, ...deep, ...kept]) await put(shard, key, 5000);
  await statuses(shard, [...gone.slice(0, 10), ...kept]);
  const { status, json } = await remove(shard, 'set/');
  t.is(status, 202);
  t.is(json.prefix, 'set/');
  // From here on no request may return an old object, whether it was open or not.
  t.deepEqual(await statuses(shard, [...gone, ...deep]), [404]);
  t.is((await put(shard, 'set/train/3', 77)).status, 201);
  const { removed, bytes } = await ended(shard, json.removal);
  t.is(removed, 50);
  t.is(bytes, 50 * 8192);
  t.deepEqual(await statuses(shard, kept), [200]);
  t.is(await get(shard, 'set/train/3'), 200);
  t.like((await ask(shard, '/datasets?prefix=set%2F')).json, { objects: 1 });
  t.is(await metric(shard, 'kura_cache_objects'), 6);
});

test('after a kill between the response and the last unlink, no removed object is returned', async (t) => {
  const hostile = new HostileFiles();
  const shard = await startTestShard(t, { files: hostile.files });
  const gone = keysOf('set/', 30);
  for (const key of [...gone, 'other/x']) await put(shard, key, 100);
  hostile.hangs.add('unlink');
  const { status, json } = await remove(shard, 'set/');
  t.is(status, 202);
  await put(shard, 'set/new', 1);
  const after = await startOnCopy(t, shard);
  t.true((await ask(after, '/datasets/keys?prefix=set%2F')).lines.length <= 2);
  t.deepEqual(await statuses(after, gone), [404]);
  t.deepEqual(await statuses(after, ['other/x', 'set/new']), [200]);
  await ended(after, json.removal);
  await t.throwsAsync(readFile(await fileOf(after.directory, 'set/7')), { code: 'ENOENT' });
  // A third process has no record to apply any more, and no file.
  await after.close();
  const third = await startTestShard(t, { directory: after.directory });
  t.deepEqual(await statuses(third, gone), [404]);
  t.is(await get(third, 'set/new'), 200);
  t.is((await ask(third, `/datasets/removal?id=${json.removal}`)).json.state, 'done');
  hostile.heal();
});

test('kill -9 right after the response brings no removed object back', async (t) => {
  const directory = await temporaryDirectory(t);
  for (let round = 0; round < 5; round += 1) {
    const shard = await startCacheProcess(t, { KURA_CACHE_DIRECTORY: directory });
    const client = { url: `http://${shard.listening.objects}` };
    const gone = keysOf(`round/${round}/`, 150);
    for (const key of gone) t.is((await put(client, key, 100)).status, 201);
    const { status, json } = await remove(client, 'round/');
    shard.child.kill('SIGKILL');
    await shard.ended;
    t.is(status, 202);
    const next = await startCacheProcess(t, { KURA_CACHE_DIRECTORY: directory });
    const after = { url: `http://${next.listening.objects}` };
    t.deepEqual(await statuses(after, gone), [404]);
    await ended(after, json.removal);
    next.child.kill('SIGKILL');
    await next.ended;
  }
});

test('an upload that began before a removal is not stored, and an upload that began after it is', async (t) => {
  const shard = await startTestShard(t);
  const begin = async (key: string) => {
    const body = new Readable({ read() {} });
    const answer = call(shard.url, { method: 'PUT', path: `/objects/${key}`, body, headers: { ...asWriter('vision') } });
    body.push(Buffer.alloc(300_000, 7));
    await waitFor('the upload has begun', async () => (await metric(shard, 'kura_cache_reserved_bytes')) > 0);
    return { answer, end: () => body.push(null) };
  };
  await put(shard, 'set/a', 10);
  const early = await begin('set/a');
  const { json } = await remove(shard, 'set/');
  const done = ended(shard, json.removal);
  early.end();
  const answer = await early.answer;
  t.is(answer.status, 201);
  t.is(answer.headers['x-kura-stored'], 'no');
  await done;
  t.is(await get(shard, 'set/a'), 404);
  const late = await begin('set/a');
  late.end();
  t.is((await late.answer).headers['x-kura-stored'], undefined);
  t.is(await get(shard, 'set/a'), 200);
  t.is(await metric(shard, 'kura_cache_reserved_bytes'), 0);
});

for (const place of ['the thread pool', 'a thread'] as const)
  test(`an upload that ${place} renames when a removal comes is not stored, and the removal does not end before its unlink`, async (t) => {
    const writer = place === 'a thread' ? new FileWriter({ onFail: (error) => t.fail(String(error)) }) : undefined;
    t.teardown(() => writer?.close());
    const hostile = new HostileFiles(writer);
    const shard = await startTestShard(t, { files: hostile.files });
    hostile.hangs.add('rename');
    const answer = put(shard, 'set/a', 10);
    await waitFor('the rename hangs', () => hostile.waiting === 1);
    const { json } = await remove(shard, 'set/');
    hostile.heal();
    hostile.hangs.add('unlink');
    await waitFor('the unlink hangs', () => hostile.waiting === 1);
    for (let round = 0; round < 20; round += 1) t.is(await get(shard, 'set/a'), 404);
    t.is((await ask(shard, `/datasets/removal?id=${json.removal}`)).json.state, 'running');
    hostile.heal();
    t.is((await answer).headers['x-kura-stored'], 'no');
    await ended(shard, json.removal);
    t.is(await metric(shard, 'kura_cache_objects'), 0);
    await t.throwsAsync(readFile(await fileOf(shard.directory, 'set/a')), { code: 'ENOENT' });
  });

test('a download of a large object survives its removal, and its room counts until the download ends', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '1Gi' } });
  // Files above 64 MiB are emptied in steps.
  const bytes = 96 * 1024 * 1024;
  await put(shard, 'set/a', bytes);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    httpGet(`${shard.url}/objects/set/a`, { agent: false, headers: { ...asWriter('vision') } }, resolve).on('error', reject);
  });
  const { json } = await remove(shard, 'set/');
  t.is(await get(shard, 'set/a'), 404);
  t.is((await ended(shard, json.removal)).removed, 1);
  t.true((await metric(shard, 'kura_cache_reserved_bytes')) > bytes);
  let received = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    if (!chunk.equals(Buffer.alloc(chunk.length, 1))) return t.fail('other bytes');
    received += chunk.length;
  }
  t.is(received, bytes);
  await waitFor('its room is free', async () => (await metric(shard, 'kura_cache_reserved_bytes')) === 0);
});

test('a removal during recovery holds for files that are not counted yet', async (t) => {
  const first = await startTestShard(t);
  const gone = keysOf('set/', 200);
  for (const key of [...gone, 'other/x']) await put(first, key, 10);
  await first.close();
  await rm(path.join(first.directory, 'snapshot'));
  const shard = await startTestShard(t, { directory: first.directory });
  const { json } = await remove(shard, 'set/');
  t.deepEqual(await statuses(shard, gone), [404]);
  t.is((await ended(shard, json.removal)).removed, 200);
  t.is(await get(shard, 'other/x'), 200);
  t.is(await metric(shard, 'kura_cache_objects'), 1);
});

test('a removal finds objects in (others) and below four segments, and leaves those beside them', async (t) => {
  const shard = await startTestShard(t);
  for (let at = 0; at < 259; at += 1) await put(shard, `many/${at}/x`, 1);
  for (const key of ['deep/a/b/c/d/x', 'deep/a/b/c/e/x', 'deep/a/b/c/x']) await put(shard, key, 1, asWriter('audio'));
  for (const prefix of ['many/257/', 'deep/a/b/c/d/']) {
    const { json } = await remove(shard, prefix);
    t.is((await ended(shard, json.removal)).removed, 1, prefix);
  }
  t.deepEqual(await statuses(shard, ['many/257/x', 'deep/a/b/c/d/x']), [404]);
  t.deepEqual(await statuses(shard, ['many/1/x', 'many/256/x', 'many/258/x', 'deep/a/b/c/e/x', 'deep/a/b/c/x']), [200]);
  const { json } = await remove(shard, '');
  t.is((await ended(shard, json.removal)).removed, 260);
  t.is(await metric(shard, 'kura_cache_objects'), 0);
  t.is(await metric(shard, 'kura_cache_stored_bytes'), 0);
});

test('a condition sees no removed version', async (t) => {
  const hostile = new HostileFiles();
  const shard = await startTestShard(t, { files: hostile.files });
  for (const key of ['set/a', 'set/b']) await put(shard, key, 10);
  await get(shard, 'set/a');
  hostile.fails.set('unlink', 'EIO');
  await remove(shard, 'set/');
  const conditional = async (key: string, headers: Record<string, string>) =>
    (
      await call(shard.url, {
        method: 'PUT',
        path: `/objects/${key}`,
        body: 'x',
        headers: { ...asWriter('vision'), ...headers, 'content-length': 1 },
      })
    ).status;
  t.is(await conditional('set/a', { 'if-match': '*' }), 412);
  t.is(await conditional('set/b', { 'if-none-match': '*' }), 201);
  t.is(await get(shard, 'set/b'), 200);
  t.is(await get(shard, 'set/a'), 404);
  hostile.heal();
});

test('a repeated removal is the same removal, and does not remove what was stored after it', async (t) => {
  const shard = await startTestShard(t);
  await put(shard, 'set/a', 1);
  const before = Date.now();
  const first = await remove(shard, 'set/', before);
  t.deepEqual(await statuses(shard, ['set/a']), [404]);
  await put(shard, 'set/b', 1);
  const [again, once] = await Promise.all([remove(shard, 'set/', before), remove(shard, 'set/', before)]);
  t.is(again.json.removal, first.json.removal);
  t.is(once.json.removal, first.json.removal);
  await ended(shard, first.json.removal);
  t.is((await remove(shard, 'set/', before)).json.state, 'done');
  t.is(await get(shard, 'set/b'), 200);
});

test('the console can read the removals of a shard with their times, also after a restart', async (t) => {
  const shard = await startTestShard(t);
  await put(shard, 'set/a', 10);
  await ended(shard, (await remove(shard, 'set/', 1_000)).json.removal);
  await remove(shard, 'without/');
  const list = async (url: { url: string }) => (await ask(url, '/datasets/removals')).json;
  const old = { prefix: 'set/', before: 1_000, state: 'done', removed: 0, bytes: 0 };
  t.deepEqual(await list(shard), { removals: [old] });
  t.is((await ask(shard, '/datasets/removals?prefix=')).status, 400);
  await shard.close();
  t.deepEqual(await list(await startTestShard(t, { directory: shard.directory })), { removals: [old] });
});

test('an older time removes only what was committed until then, and a later or near time counts as now', async (t) => {
  const shard = await startTestShard(t);
  await put(shard, 'set/a', 1);
  const old = await remove(shard, 'set/', Date.now() - 3_600_000);
  t.is(old.json.before < Date.now() - 3_000_000, true);
  t.is((await ended(shard, old.json.removal)).removed, 0);
  t.is(await get(shard, 'set/a'), 200);
  for (const before of [Date.now() - 1_000, Date.now() + 3_600_000]) {
    await put(shard, 'set/a', 1);
    const { json } = await remove(shard, 'set/', before);
    t.true(Math.abs(json.before - Date.now()) < 60_000);
    t.is(await get(shard, 'set/a'), 404);
    await put(shard, 'set/a', 1);
    await ended(shard, json.removal);
    t.is(await get(shard, 'set/a'), 200);
  }
});

test('a removal while objects are stored and read keeps every object that was stored after it', async (t) => {
  const shard = await startTestShard(t);
  const keys = keysOf('set/', 40);
  for (const key of keys) await put(shard, key, 100);
  const stored = new Map<string, number>();
  let isOver = false;
  const writers = [0, 1, 2].map(async (lane) => {
    for (let at = lane; !isOver; at += 3) {
      const key = keys[at % keys.length] as string;
      const begunAt = performance.now();
      const { headers } = await put(shard, key, 200 + (at % 7));
      if (headers['x-kura-stored'] === undefined) stored.set(key, begunAt);
      else stored.delete(key);
      await get(shard, keys[(at * 7) % keys.length] as string);
    }
  });
  for (let round = 0; round < 4; round += 1) {
    const { json, status } = await remove(shard, 'set/');
    t.is(status, 202);
    await ended(shard, json.removal);
  }
  const removedAt = performance.now();
  await waitFor('every key is stored again', () => keys.every((key) => (stored.get(key) ?? 0) > removedAt));
  isOver = true;
  await Promise.all(writers);
  t.deepEqual(await statuses(shard, keys), [200]);
  t.is(await metric(shard, 'kura_cache_objects'), 40);
});

test('a removal does not end while files cannot be removed, and no request returns them meanwhile', async (t) => {
  const hostile = new HostileFiles();
  const shard = await startTestShard(t, { files: hostile.files });
  const gone = keysOf('set/', 3);
  for (const key of gone) await put(shard, key, 100);
  hostile.fails.set('unlink', 'EACCES');
  const { json } = await remove(shard, 'set/');
  for (let round = 0; round < 3; round += 1) t.deepEqual(await statuses(shard, gone), [404]);
  t.is((await ask(shard, `/datasets/removal?id=${json.removal}`)).json.state, 'running');
  hostile.heal();
  t.is((await ended(shard, json.removal)).removed, 3);
});

test('a removal that cannot be made durable is 507 and not in force', async (t) => {
  const shard = await startTestShard(t);
  await put(shard, 'set/a', 1);
  const part = path.join(shard.directory, 'removals.json.part');
  await mkdir(part);
  const { status, json } = await remove(shard, 'set/', 5);
  t.is(`${status} ${json.code}`, '507 disk-fault');
  t.is(await get(shard, 'set/a'), 200);
  await rmdir(part);
  t.is((await remove(shard, 'set/')).status, 202);
  t.is(await get(shard, 'set/a'), 404);
});

test('after 64 removals that have not ended, a further one is refused', async (t) => {
  const hostile = new HostileFiles();
  const shard = await startTestShard(t, { files: hostile.files });
  await put(shard, '0/a', 1);
  hostile.fails.set('unlink', 'EIO');
  for (let at = 0; at < 64; at += 1) t.is((await remove(shard, `${at}/`)).status, 202);
  const { status, json } = await remove(shard, 'more/');
  t.is(`${status} ${json.code}`, '503 too-many-removals');
  hostile.heal();
  await waitFor('there is room for another', async () => (await remove(shard, 'more/')).status === 202);
});

test('a shard does not start on removals that it cannot read', async (t) => {
  const shard = await startTestShard(t);
  await remove(shard, 'set/');
  await shard.close();
  await writeFile(path.join(shard.directory, 'removals.json'), '{"form":1,"removals":[{}]}');
  await t.throwsAsync(startTestShard(t, { directory: shard.directory }), { message: /removals\.json is not readable, .* remove it/ });
});

test('commit times continue after the removals of an earlier process, although the clock went back', async (t) => {
  const first = await startTestShard(t);
  await put(first, 'set/a', 1);
  await first.close();
  const future = (Date.now() + 3_600_000) * 1000;
  const removals = [{ id: 'x', prefix: 'set/', time: future, askedMs: 1, state: 'running' }];
  await writeFile(path.join(first.directory, 'removals.json'), JSON.stringify({ form: 1, removals }));
  const shard = await startTestShard(t, { directory: first.directory });
  await isCounted(shard);
  await put(shard, 'set/b', 1);
  t.is(await get(shard, 'set/a'), 404);
  await ended(shard, 'x');
  t.is(await get(shard, 'set/b'), 200);
  t.true((await readdir(shard.directory)).includes('removals.json'));
});
