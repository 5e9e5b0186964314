import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { waitFor } from '../../support/wait.ts';
import { fileOf, flipBit } from '../support/disk.ts';
import { HostileFiles } from '../support/hostile-files.ts';
import { startTestShard, type TestShard } from '../support/shard.ts';
import { ask, asWriter, get, isCounted, manager, put } from './support/console.ts';

/** All pages, with at most `limit` keys each. */
async function list(shard: TestShard, prefix: string, limit: number) {
  const keys: { key: string; size: number; modified: string; writer: string }[] = [];
  let isComplete = true;
  let pages = 0;
  for (let after: string | undefined; ; ) {
    const cursor = after === undefined ? '' : `&after=${after}`;
    const { status, lines } = await ask(shard, `/datasets/keys?prefix=${encodeURIComponent(prefix)}&limit=${limit}${cursor}`);
    if (status !== 200) throw new Error(`status ${status}`);
    const end = lines.pop();
    keys.push(...lines);
    pages += 1;
    isComplete &&= end.complete;
    after = end.next;
    if (after === undefined) return { keys, isComplete, pages };
    if (lines.length > limit) throw new Error('the page is too long');
  }
}

test('pages list every key under a prefix once, in the order of file names', async (t) => {
  const shard = await startTestShard(t);
  for (let at = 0; at < 60; at += 1) await put(shard, `set/train/${at}`, at, at % 2 === 0 ? undefined : asWriter('audio'));
  for (let at = 0; at < 20; at += 1) await put(shard, `set/deep/a/b/${at % 2}/${at}`, 1);
  await put(shard, 'set2/x', 1);
  const { keys, pages, isComplete } = await list(shard, 'set/train/', 7);
  t.true(isComplete);
  t.is(pages, 9);
  t.deepEqual(keys.map(({ key }) => key).toSorted(), Array.from({ length: 60 }, (_, at) => `set/train/${at}`).toSorted());
  const names = await Promise.all(keys.map(async ({ key }) => path.basename(await fileOf(shard.directory, key))));
  t.deepEqual(names, names.toSorted());
  const odd = keys.find(({ key }) => key === 'set/train/41');
  t.like(odd, { size: 41, writer: 'audio/trainer/-' });
  t.true(Math.abs(Date.parse(odd?.modified ?? '') - Date.now()) < 60_000);
  // A prefix inside a data set, a prefix above, and all.
  t.is((await list(shard, 'set/deep/a/b/1/', 3)).keys.length, 10);
  t.is((await list(shard, 'set/', 100)).keys.length, 80);
  t.is((await list(shard, '', 1000)).keys.length, 81);
  t.deepEqual((await list(shard, 'none/', 10)).keys, []);
});

test('a key is listed too if no group is for its data set alone', async (t) => {
  const shard = await startTestShard(t);
  for (let at = 0; at < 260; at += 1) await put(shard, `many/${at}/x`, 1);
  t.is((await list(shard, 'many/', 1000)).keys.length, 260);
  t.deepEqual(
    (await list(shard, 'many/259/', 1000)).keys.map(({ key }) => key),
    ['many/259/x'],
  );
});

test('a cursor holds for its prefix and directory, also after a restart and after its object is gone', async (t) => {
  const first = await startTestShard(t);
  for (let at = 0; at < 10; at += 1) await put(first, `set/${at}`, 1);
  const page = await ask(first, '/datasets/keys?prefix=set%2F&limit=4');
  const { next } = page.lines.at(-1);
  await first.close();
  const shard = await startTestShard(t, { directory: first.directory });
  await rm(await fileOf(shard.directory, page.lines[3].key));
  await isCounted(shard);
  const rest = await ask(shard, `/datasets/keys?prefix=set%2F&after=${next}`);
  t.is(rest.lines.length, 7);
  const flipped = next.slice(0, -1) + (next.endsWith('A') ? 'B' : 'A');
  const other = await startTestShard(t);
  for (const [at, prefix, cursor] of [
    [shard, 'set%2F', flipped],
    [shard, 'set%2F', ''],
    [shard, 'set%2F', 'x'],
    [shard, 'set%2F', `${next}A`],
    [shard, '', next],
    [other, 'set%2F', next],
  ] as const) {
    const answer = await ask(at, `/datasets/keys?prefix=${prefix}&after=${cursor}`);
    t.is(`${answer.status} ${answer.json.code}`, '400 bad-cursor', cursor);
  }
});

test('a damaged file is no key and is removed; a file that cannot be read makes the page incomplete', async (t) => {
  const hostile = new HostileFiles();
  const shard = await startTestShard(t, { files: hostile.files });
  for (let at = 0; at < 5; at += 1) await put(shard, `set/${at}`, 100);
  const file = await fileOf(shard.directory, 'set/3');
  await flipBit(file, 130);
  const { keys, isComplete } = await list(shard, 'set/', 10);
  t.is(keys.length, 4);
  t.true(isComplete);
  await t.throwsAsync(readdir(file), { code: 'ENOENT' });
  hostile.fails.set('open', 'EIO');
  t.like(await list(shard, 'set/', 10), { keys: [], isComplete: false });
  hostile.heal();
});

test('a fifth list at the same time is refused, and a list of a client that leaves ends', async (t) => {
  const hostile = new HostileFiles();
  const shard = await startTestShard(t, { files: hostile.files });
  await put(shard, 'set/a', 1);
  hostile.hangs.add('open');
  const leave = new AbortController();
  const lists = Array.from({ length: 4 }, () =>
    fetch(`${shard.url}/datasets/keys?prefix=set%2F`, { headers: { ...manager() }, signal: leave.signal }).then(
      (response) => response.text(),
      () => undefined,
    ),
  );
  const busy = await waitFor('all lists run', async () => {
    const answer = await ask(shard, '/datasets/keys?prefix=none%2F');
    return answer.status === 503 && answer;
  });
  t.is(busy.json.code, 'too-many-lists');
  t.is(busy.headers['retry-after'], '1');
  leave.abort();
  hostile.heal();
  await Promise.all(lists);
  await waitFor('a list is possible', async () => (await ask(shard, '/datasets/keys?prefix=set%2F')).lines.length === 2);
});

test('a list does not count as a read and does not change which object is the least recently used', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_OBJECTS: '64' } });
  for (let at = 0; at < 50; at += 1) await put(shard, `set/${at}`, 1);
  await list(shard, '', 100);
  for (let at = 0; at < 30; at += 1) await put(shard, `more/${at}`, 1);
  await waitFor('objects are evicted', async () => (await ask(shard, '/datasets?prefix=set%2F')).json.objects < 50);
  t.is(await get(shard, 'set/0'), 404);
  t.is(await get(shard, 'set/49'), 200);
});
