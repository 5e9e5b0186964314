/** Data sets over several shards, with shards that fail. */
import { createSecretKey } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { startDatasetsServer } from '../../services/console/datasets/http.ts';
import { BadCursorError, keyPage } from '../../services/console/datasets/key-pages.ts';
import { Removals } from '../../services/console/datasets/removals.ts';
import {
  type KeptRemoval,
  ShardClient,
  type ShardKeys,
  type ShardPlace,
  ShardProblem,
  type ShardTotals,
} from '../../services/console/datasets/shard-client.ts';
import { type ShardOutcome, TotalsSum } from '../../services/console/datasets/totals.ts';
import { callerHeaders } from '../support/caller.ts';
import { temporaryFolder } from '../support/service.ts';

const place = (index: number): ShardPlace => ({ hashKey: `kura-cache-${index}/shard-0`, address: '127.0.0.1', port: 1 });
const signal = new AbortController().signal;
const log = pino({ enabled: false });
const credential = 'c'.repeat(32);
const keys = () => [createSecretKey(Buffer.from(credential))];

const use = (prefix: string, objects: number, lastUsed: string | null = null) => ({
  prefix,
  objects,
  bytes: 4_096 * objects,
  hits: 1,
  misses: 2,
  lastUsed,
});
const totals = (objects: number, children: readonly ReturnType<typeof use>[], complete = true): ShardTotals => ({
  ...use('a/', objects),
  children,
  complete,
});

function sumTotals(prefix: string, outcomes: readonly ShardOutcome<ShardTotals>[]) {
  const sum = new TotalsSum(prefix);
  for (const outcome of outcomes) sum.add(outcome);
  return sum.result();
}

test('totals of shards add up by data set, and a shard that is away makes them incomplete', (t) => {
  const one = totals(3, [use('a/b/c/d/', 1, '2026-01-01T00:00:00.000Z'), use('a/b/c/e/', 2)]);
  const other = totals(4, [use('a/b/c/d/', 4, '2026-02-01T00:00:00.000Z')]);
  const sum = sumTotals('a/', [
    { shard: 'x', result: one },
    { shard: 'y', result: other },
  ]);
  t.like(sum, { prefix: 'a/', objects: 7, bytes: 7 * 4_096, hits: 2, misses: 4, complete: true });
  t.deepEqual(sum.children, [{ ...use('a/b/c/d/', 5, '2026-02-01T00:00:00.000Z'), hits: 2, misses: 4 }, use('a/b/c/e/', 2)]);
  const without = sumTotals('a/', [
    { shard: 'x', result: one },
    { shard: 'y', result: undefined },
    { shard: 'z', result: totals(0, [], false) },
  ]);
  t.false(without.complete);
  t.deepEqual(
    without.shards.map(({ shard, state }) => [shard, state]),
    [
      ['x', 'complete'],
      ['y', 'away'],
      ['z', 'incomplete'],
    ],
  );
  t.false(sumTotals('a/', []).complete, 'no shard knows nothing');
});

test('more than 1,000 data sets end in one sum', (t) => {
  const many = Array.from({ length: 1_005 }, (_, index) => use(`a/${index}/`, 2_000 - index));
  const { children } = sumTotals('a/', [{ shard: 'x', result: totals(1, many) }]);
  t.is(children.length, 1_001);
  t.like(children.at(-1), { prefix: '(others)', hits: 5 });
});

/** Each shard has 3 keys, and gives 2 of them at a time. */
function shardKeys(shard: ShardPlace, { after, limit }: { after: string | undefined; limit: number }): ShardKeys {
  if (after !== undefined && !/^\d$/.test(after)) throw new ShardProblem('bad-cursor');
  const from = Number(after ?? 0);
  const to = Math.min(3, from + Math.min(limit, 2));
  const lines = Array.from({ length: to - from }, (_, index) => `${shard.hashKey} ${from + index}\n`);
  return { text: lines.join(''), keys: lines.length, next: to < 3 ? String(to) : undefined, complete: true };
}

async function page(shards: readonly ShardPlace[], options: { after?: string; limit?: number; away?: string } = {}) {
  const { after, limit = 100, away } = options;
  const client = {
    keys: async (shard: ShardPlace, request: { after: string | undefined; limit: number }) => {
      if (shard.hashKey === away) throw new Error('away');
      return shardKeys(shard, request);
    },
  };
  const lines: string[] = [];
  const pages = keyPage(client, shards, { prefix: 'a/', after, limit, signal });
  let step = await pages.next();
  for (; step.done !== true; step = await pages.next()) lines.push(...step.value.trimEnd().split('\n'));
  return { lines, ...step.value };
}

test('keys come shard by shard, and a cursor continues where the page ended', async (t) => {
  const shards = [place(1), place(0)];
  const all = await page(shards);
  t.deepEqual(
    all.lines,
    ['0', '1'].flatMap((shard) => ['0', '1', '2'].map((key) => `kura-cache-${shard}/shard-0 ${key}`)),
  );
  t.like(all, { next: undefined, complete: true });
  for (const limit of [1, 2, 3, 4, 5]) {
    const found: string[] = [];
    let after: string | undefined;
    do {
      const part = await page(shards, { limit, ...(after === undefined ? {} : { after }) });
      t.true(part.lines.length <= limit && part.complete);
      found.push(...part.lines);
      after = part.next;
    } while (after !== undefined);
    t.deepEqual(found, all.lines, `${limit}`);
  }
});

test('a shard that is away is left out, and the page says so', async (t) => {
  const { lines, complete, next } = await page([place(0), place(1)], { away: place(0).hashKey });
  t.deepEqual([lines.length, complete, next], [3, false, undefined]);
  t.like(await page([]), { complete: false, next: undefined });
});

test('an old cursor of a shard that is gone continues with the next shard', async (t) => {
  const { next } = await page([place(0), place(1)], { limit: 1 });
  t.like(await page([place(1)], { after: next as string }), {
    complete: false,
    lines: [0, 1, 2].map((key) => `kura-cache-1/shard-0 ${key}`),
  });
});

test('a forged cursor is rejected before the first key', async (t) => {
  const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  for (const after of ['x', '', encoded({}), encoded([]), encoded([1]), encoded(['a', 1]), encoded(['a', 'b', 'c']), 'a'.repeat(5_000)])
    await t.throwsAsync(page([place(0)], { after }), { instanceOf: BadCursorError }, after);
  await t.throwsAsync(page([place(0)], { after: encoded([place(0).hashKey, 'other']) }), { instanceOf: BadCursorError });
});

/** Shards that remove in two steps and keep their removals, unless they are away. */
function shardsThatRemove() {
  const kept = new Map<string, KeptRemoval[]>();
  const away = new Set<string>();
  const calls: string[] = [];
  const seen = new Map<string, number>();
  const remove = async ({ hashKey }: ShardPlace, { prefix, before }: { prefix: string; before: number }) => {
    if (away.has(hashKey)) throw new Error('away');
    calls.push(`${hashKey} ${prefix} ${before}`);
    const count = (seen.get(`${hashKey} ${prefix} ${before}`) ?? 0) + 1;
    seen.set(`${hashKey} ${prefix} ${before}`, count);
    const removal = { state: count > 1 ? ('done' as const) : ('running' as const), removed: count, bytes: count * 4_096 };
    const others = (kept.get(hashKey) ?? []).filter((each) => each.prefix !== prefix || each.before !== before);
    kept.set(hashKey, [...others, { prefix, before, ...removal }]);
    return removal;
  };
  const removals = async ({ hashKey }: ShardPlace) => {
    if (away.has(hashKey)) throw new Error('away');
    return kept.get(hashKey) ?? [];
  };
  return { away, calls, kept, client: { remove, removals } };
}

const options = (client: Pick<ShardClient, 'remove' | 'removals'>, file?: string) => ({
  client,
  shards: () => [place(0), place(1)],
  answers: () => true,
  keys,
  file,
  now: () => 1_000_000,
  log,
});

test('a removal is repeated until each shard has confirmed it, then not again', async (t) => {
  const { away, calls, client } = shardsThatRemove();
  away.add(place(1).hashKey);
  const removals = new Removals(options(client));
  const begun = await removals.start('a/');
  t.deepEqual(
    begun?.shards.map(({ state }) => state),
    ['pending', 'away'],
  );
  await removals.repeat();
  await removals.repeat();
  t.is(calls.length, 2, 'a shard that is done is not asked again');
  away.clear();
  await removals.repeat();
  const ended = await removals.progress('a/', begun?.removal as string);
  t.like(ended, { state: 'done', removed: 4, prefix: 'a/', before: new Date(1_000_000).toISOString() });
  t.is(new Set(calls.map((call) => call.split(' ').at(-1))).size, 1, 'one time for all');
  await removals.repeat();
  t.is(calls.length, 4);
});

test('removals survive a restart, and another replica follows one by its id', async (t) => {
  const file = path.join(await temporaryFolder(t), 'removals.json');
  const { away, client } = shardsThatRemove();
  away.add(place(1).hashKey);
  const begun = await new Removals(options(client, file)).start('a/');
  away.clear();
  const next = new Removals(options(client, file));
  await next.repeat();
  await next.repeat();
  const { state } = (await new Removals(options(client)).progress('a/', begun?.removal as string)) ?? {};
  t.is(state, 'done');
  await writeFile(file, '{"format":9}');
  const lost = new Removals(options(client, file));
  await lost.repeat();
  t.like(await lost.progress('a/', begun?.removal as string), { state: 'done' });
});

test('a new console without a file learns the removals from the shards that have them', async (t) => {
  const { away, calls, client } = shardsThatRemove();
  away.add(place(1).hashKey);
  const begun = await new Removals(options(client)).start('a/');
  const next = new Removals({ ...options(client), answers: (hashKey) => !away.has(hashKey) });
  await next.repeat();
  await next.repeat();
  const [asked] = calls.splice(0);
  away.clear();
  await next.repeat();
  await next.repeat();
  t.deepEqual(calls, Array(2).fill(asked?.replace(place(0).hashKey, place(1).hashKey)), 'the same time, only at the shard that was away');
  t.like(await next.progress('a/', begun?.removal as string), { state: 'done' });
});

test('a shard that returns with removals that the others lack is read when it answers', async (t) => {
  const { away, calls, client } = shardsThatRemove();
  away.add(place(1).hashKey);
  await new Removals(options(client)).start('a/');
  away.clear();
  away.add(place(0).hashKey);
  const next = new Removals({ ...options(client), answers: (hashKey) => !away.has(hashKey) });
  await next.repeat();
  t.is(calls.length, 1, 'no other shard knows it');
  away.clear();
  await next.repeat();
  t.true(calls.at(-1)?.startsWith(place(1).hashKey));
});

test('removals that all shards have confirmed take no place from a removal that a shard has missed', async (t) => {
  const { calls, kept, client } = shardsThatRemove();
  const ended = { state: 'done' as const, removed: 0, bytes: 0 };
  const common = Array.from({ length: 255 }, (_, index) => ({ prefix: `${index}/`, before: 999_000 + index, ...ended }));
  kept.set(place(0).hashKey, common);
  kept.set(place(1).hashKey, [{ prefix: 'missed/', before: 998_000, ...ended }, ...common]);
  const next = new Removals(options(client));
  await next.repeat();
  t.deepEqual(calls, [`${place(0).hashKey} missed/ 998000`]);
});

test('a removal with a time that no id can hold is left, and the others are learned', async (t) => {
  const { calls, kept, client } = shardsThatRemove();
  const state = { state: 'running' as const, removed: 0, bytes: 0 };
  const odd = [2 ** 48, -1, 1.5, Number.NaN].map((before) => ({ prefix: 'odd/', before, ...state }));
  kept.set(place(0).hashKey, [...odd, { prefix: 'a/', before: 999_000, ...state }]);
  const next = new Removals(options(client));
  await next.repeat();
  t.deepEqual([...new Set(calls)].sort(), [0, 1].map((at) => `${place(at).hashKey} a/ 999000`).sort());
});

test('old removals of shards are left, only the newest are learned, and a release without the list is asked once', async (t) => {
  const { calls, kept, client } = shardsThatRemove();
  const ended = { state: 'done' as const, removed: 0, bytes: 0 };
  kept.set(place(0).hashKey, [
    { prefix: 'old/', before: 999_999, ...ended },
    ...Array.from({ length: 256 }, (_, index) => ({ prefix: `${index}/`, before: 1_000_000 + 31 * 24 * 3_600_000 + index, ...ended })),
  ]);
  let lists = 0;
  const removals = async (shard: ShardPlace) => {
    lists += 1;
    if (shard.hashKey === place(1).hashKey) throw new ShardProblem('no-such-path');
    return await client.removals(shard);
  };
  const next = new Removals({ ...options({ ...client, removals }), now: () => 1_000_000 + 31 * 24 * 3_600_000 });
  await next.repeat();
  t.is(calls.length, 128, 'the other shard gets half of what the console can hold');
  t.true(calls.every((call) => Number(call.split(' ')[1]?.slice(0, -1)) >= 128));
  await next.repeat();
  t.is(lists, 2);
  t.truthy(await next.start('new/'));
});

test('an id of another prefix, another time or another credential starts nothing', async (t) => {
  const { calls, client } = shardsThatRemove();
  const removals = new Removals(options(client));
  const { removal } = (await removals.start('a/')) as { removal: string };
  const count = calls.length;
  const bytes = Buffer.from(removal, 'base64url');
  bytes.writeUIntBE(2_000_000, 0, 6);
  for (const [prefix, id] of [
    ['b/', removal],
    ['a/', bytes.toString('base64url')],
    ['a/', ''],
    ['a/', `${removal}=`],
    ['a/', removal.slice(0, -1)],
  ] as const)
    t.is(await removals.progress(prefix, id), undefined, id);
  const stranger = new Removals({ ...options(client), keys: () => [createSecretKey(Buffer.from('d'.repeat(32)))] });
  t.is(await stranger.progress('a/', removal), undefined);
  const rotated = new Removals({ ...options(client), keys: () => [createSecretKey(Buffer.from('d'.repeat(32))), ...keys()] });
  t.truthy(await rotated.progress('a/', removal), 'the former key of a rotation');
  t.true(calls.length > count);
});

test('a shard that refuses is pending, with its code; too many removals are refused', async (t) => {
  const client = {
    remove: async () => {
      throw new ShardProblem('too-many-removals');
    },
    removals: async () => [],
  };
  let at = 0;
  const removals = new Removals({ ...options(client), now: () => 1_000_000 + at++ });
  const begun = await removals.start('a/');
  t.deepEqual(begun?.shards[0], { shard: place(0).hashKey, state: 'pending', code: 'too-many-removals' });
  for (let index = 1; index < 256; index += 1) await removals.start(`${index}/`);
  t.is(await removals.start('z/'), undefined);
});

async function serve(
  t: ExecutionContext,
  client = new ShardClient({ keys, namespace: 'kura-system', now: Date.now }),
  shards?: readonly ShardPlace[],
) {
  const removals = new Removals({ ...options(client), shards: () => shards ?? [] });
  const server = await startDatasetsServer({
    address: { host: '127.0.0.1', port: 0 },
    client,
    removals,
    shards: () => shards,
    keys,
    now: Date.now,
    log,
  });
  t.teardown(async () => {
    await server.close();
    await client.close();
  });
  return async (target: string, init: { method?: string; headers?: Record<string, string> } = {}) => {
    const { method = 'GET', headers = { ...callerHeaders({ credential }) } } = init;
    const answer = await fetch(`http://${server.address}${target}`, { method, headers });
    return { status: answer.status, body: (await answer.json()) as { code?: string } };
  };
}

test('only requests with good terms are answered', async (t) => {
  const ask = await serve(t, undefined, []);
  t.is((await ask('/datasets/a/')).status, 200);
  t.is((await ask('/datasets/a/', { headers: {} })).status, 401);
  t.is((await ask('/datasets/a/', { headers: { ...callerHeaders({ credential: 'd'.repeat(32) }) } })).status, 401);
  const expired = callerHeaders({ credential, expiresAtSeconds: Math.floor(Date.now() / 1000) - 1 });
  t.is((await ask('/datasets/a/', { headers: { ...expired } })).status, 401);
  t.like(await ask('/datasets/a/', { method: 'PUT' }), { status: 405, body: { code: 'method-not-allowed' } });
  t.like(await ask('/prefetch/a/'), { status: 404, body: { code: 'no-such-path' } });
});

test('before the first list of shards, a request is 503', async (t) => {
  t.like(await (await serve(t))('/datasets/a/'), { status: 503, body: { code: 'shards-unknown' } });
});

test('the shard gets the signed terms of the console, and an oversized response counts as none', async (t) => {
  const seen: (string | string[] | undefined)[] = [];
  const shard = createServer((request, response) => {
    seen.push(request.headers['x-kura-caller'], request.headers['x-kura-terms']);
    response.end('x'.repeat(9 * 1024 * 1024));
  });
  await new Promise<void>((resolve) => shard.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    shard.closeAllConnections();
    shard.close();
  });
  const ask = await serve(t, undefined, [{ ...place(0), port: (shard.address() as AddressInfo).port }]);
  t.like(await ask('/datasets/a/'), { status: 200, body: { complete: false, shards: [{ state: 'away' }] } });
  t.is(seen[0], 'kura-system/kura-console/-');
  t.regex(String(seen[1]), /^max-object-bytes=0; direct=no; manage=yes; exp=\d+; sig=/);
});
