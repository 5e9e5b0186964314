/** Data sets through Envoy, authz and the console: totals, keys and removal. */
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import anyTest, { type TestFn } from 'ava';
import type { RemovalProgress } from '../../services/shared/datasets-api.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
let system: LocalSystem;
const body = Buffer.alloc(1_000, 1);

interface Totals {
  objects: number;
  bytes: number;
  hits: number;
  misses: number;
  complete: boolean;
  children: { prefix: string; objects: number }[];
  shards: { shard: string; state: string }[];
}

test.before(async (t) => {
  t.timeout(3 * 60_000);
  system = await startLocalSystem({
    args: ['--shards', '3', '--shard-bytes', '64Mi'],
    environment: { KURA_CONSOLE_WATCHED_INTERVAL: '500ms', KURA_CONSOLE_IDLE_INTERVAL: '500ms' },
  });
  const policy = (await system.local()).policy as string;
  const text = await readFile(policy, 'utf8');
  await writeFile(policy, text.replace(/verbs: \[GET, HEAD, PUT, DELETE.*\]/, 'verbs: [GET, HEAD, PUT, DELETE, FILL, LIST]'));
  await waitFor('LIST is allowed', async () => (await ask('GET', 'vision/')).status === 200);
});
test.after.always(() => system?.stop());

const ask = (method: string, path: string, as = 'vision/trainer') => system.call({ as, method, path: `/datasets/${path}` });

async function json<T>(method: string, path: string): Promise<T> {
  const answer = await ask(method, path);
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
  return JSON.parse(answer.body.toString()) as T;
}

async function fill(prefix: string, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    await system.call({
      as: 'vision/trainer',
      method: 'PUT',
      path: `/objects/${prefix}${index}`,
      body,
      headers: { 'content-length': body.length },
    });
  }
}

interface KeyLine {
  key: string;
  size: number;
  writer: string;
}

async function keys(prefix: string, limit: number): Promise<{ keys: KeyLine[]; pages: number; complete: boolean }> {
  const found: KeyLine[] = [];
  let after = '';
  for (let pages = 1; ; pages += 1) {
    const { body: text } = await ask('GET', `${prefix}?keys&limit=${limit}${after}`);
    const lines = text.toString().trimEnd().split('\n');
    const end = JSON.parse(lines.pop() as string) as { next?: string; complete: boolean };
    found.push(...lines.map((line) => JSON.parse(line) as KeyLine));
    if (end.next === undefined) return { keys: found, pages, complete: end.complete };
    after = `&after=${end.next}`;
  }
}

const isGone = (prefix: string) => async () => (await json<Totals>('GET', prefix)).objects === 0;

test.serial('totals add all shards, by data set', async (t) => {
  await fill('vision/a/b/c/', 30);
  await fill('vision/a/b/d/', 12);
  await system.call({ as: 'vision/trainer', path: '/objects/vision/a/b/c/1' });
  const totals = await json<Totals>('GET', 'vision/a/');
  t.is(totals.objects, 42);
  t.true(totals.complete);
  t.is(totals.bytes, 42 * 4096);
  t.deepEqual(totals.children.map(({ prefix, objects }) => [prefix, objects]).sort(), [
    ['vision/a/b/c/', 30],
    ['vision/a/b/d/', 12],
  ]);
  t.is(totals.shards.length, 3);
  t.true(totals.hits >= 1);
});

test.serial('keys come page by page, each once', async (t) => {
  const all = await keys('vision/a/b/', 7);
  t.is(all.keys.length, 42);
  t.is(new Set(all.keys.map(({ key }) => key)).size, 42);
  t.true(all.pages >= 6 && all.complete);
  t.like(all.keys[0], { size: 1_000, writer: 'vision/trainer/trainer' });
  t.is((await keys('vision/a/b/', 1_000)).pages, 1);
  t.is((await ask('GET', 'vision/a/?keys&after=forged')).status, 400);
  const { body: first } = await ask('GET', 'vision/a/b/?keys&limit=5');
  const { next } = JSON.parse(first.toString().trimEnd().split('\n').at(-1) as string) as { next: string };
  const other = await ask('GET', `vision/a/?keys&after=${next}`);
  t.is(other.status, 400, 'a cursor of another prefix');
  t.regex(other.body.toString(), /bad-cursor/);
});

test.serial('a key with an escape has one spelling', async (t) => {
  await fill('vision/e%28x/y/z/', 2);
  t.is((await json<Totals>('GET', 'vision/e%28x/y/z/')).objects, 2);
  t.is((await json<Totals>('GET', 'vision/e(x/y/z/')).objects, 2);
});

for (const [path, status, code] of [
  ['nlp/', 403, 'forbidden'],
  ['', 403, 'forbidden'],
  ['vision/a', 400, 'bad-prefix'],
  [`vision/${'x'.repeat(1_018)}/`, 400, 'bad-prefix'],
  ['vision/?keys=1', 400, 'bad-query'],
  ['vision/?keys&limit=0', 400, 'bad-query'],
  ['vision/?after=x', 400, 'bad-query'],
  ['vision/?keys&keys', 400, 'bad-query'],
  ['vision/?removal=x', 404, 'no-such-removal'],
] as const) {
  test.serial(`GET of ${path.slice(0, 40) || 'all keys'} is ${status} ${code}`, async (t) => {
    const answer = await ask('GET', path);
    t.is(answer.status, status);
    t.is((JSON.parse(answer.body.toString()) as { code: string }).code, code);
  });
}

test.serial('a prefix of 1,024 bytes is one', async (t) => {
  t.is((await ask('GET', `vision/${'x'.repeat(1_016)}/`)).status, 200);
});

test.serial('a removal needs the right DELETE, removes all shards, and spares a later PUT', async (t) => {
  await fill('vision/gone/b/c/', 30);
  await fill('vision/kept/b/c/', 5);
  t.is((await ask('DELETE', 'vision/gone/', 'nlp/trainer')).status, 403);
  t.is((await ask('DELETE', 'vision/gone/?x')).status, 400);
  const answer = await ask('DELETE', 'vision/gone/');
  t.is(answer.status, 202);
  const begun = JSON.parse(answer.body.toString()) as RemovalProgress;
  t.is(begun.shards.length, 3);
  t.is((await system.call({ as: 'vision/trainer', path: '/objects/vision/gone/b/c/1' })).status, 404, 'at once');
  await fill('vision/gone/b/c/', 1);
  const done = await waitFor('all shards are done', async () => {
    const progress = await json<RemovalProgress>('GET', `vision/gone/?removal=${begun.removal}`);
    return progress.state === 'done' && progress;
  });
  t.true(done.shards.every(({ state }) => state === 'done'));
  t.is((await system.call({ as: 'vision/trainer', path: '/objects/vision/gone/b/c/0' })).status, 200, 'a PUT after the removal');
  t.is((await json<Totals>('GET', 'vision/kept/')).objects, 5);
  t.is((await ask('GET', `vision/kept/?removal=${begun.removal}`)).status, 404, 'the id of another prefix');
});

test.serial('a shard that is away is named, and the removal reaches it when it returns, also after a restart of the console', async (t) => {
  await fill('vision/late/b/c/', 30);
  await system.signal('kura-cache-1', 'SIGSTOP');
  try {
    const begun = await json<RemovalProgress>('DELETE', 'vision/late/');
    t.is(begun.state, 'pending');
    t.deepEqual(
      begun.shards.map(({ shard, state }) => [shard, state === 'away']),
      [0, 1, 2].map((index) => [`kura-cache-${index}/shard-0`, index === 1]),
    );
    t.false((await json<Totals>('GET', 'vision/late/')).complete);
    const pid = await system.signal('console', 'SIGKILL');
    await system.restarted('console', pid);
  } finally {
    await system.signal('kura-cache-1', 'SIGCONT');
  }
  t.true(await waitFor('nothing is left', isGone('vision/late/')));
});

test.serial('a removal reaches a shard that was away also from a new console that has no file of it', async (t) => {
  await fill('vision/replaced/b/c/', 30);
  await system.signal('kura-cache-1', 'SIGSTOP');
  try {
    const { removal } = await json<RemovalProgress>('DELETE', 'vision/replaced/');
    await waitFor('the other shards are done', async () => {
      const { shards } = await json<RemovalProgress>('GET', `vision/replaced/?removal=${removal}`);
      return shards.filter(({ state }) => state === 'done').length === 2;
    });
    // Nothing changes from here on, so the console does not write the file again.
    execFileSync('rm', [`${system.stateDirectory}/removals.json`], { cwd: root });
    const pid = await system.signal('console', 'SIGKILL');
    await system.restarted('console', pid);
  } finally {
    await system.signal('kura-cache-1', 'SIGCONT');
  }
  t.true(await waitFor('nothing is left', isGone('vision/replaced/')));
});

test.serial('another replica of the console follows a removal by its id', async (t) => {
  await fill('vision/other/b/c/', 5);
  const begun = await json<RemovalProgress>('DELETE', 'vision/other/');
  const pid = await system.signal('console', 'SIGTERM');
  await system.restarted('console', pid);
  execFileSync('rm', ['-f', `${system.stateDirectory}/removals.json`], { cwd: root });
  await waitFor('it is done', async () => {
    const progress = await ask('GET', `vision/other/?removal=${begun.removal}`);
    return progress.status === 200 && (JSON.parse(progress.body.toString()) as RemovalProgress).state === 'done';
  });
  t.true(await isGone('vision/other/')());
});

test.serial('in a dry run, data sets still need their rights', async (t) => {
  const policy = (await system.local()).policy as string;
  const text = await readFile(policy, 'utf8');
  await writeFile(policy, text.replace('mode: enforce', 'mode: dryRun'));
  try {
    await waitFor('the dry run', async () => (await system.call({ as: 'vision/trainer', path: '/objects/nlp/x' })).status === 404);
    t.is((await ask('DELETE', 'nlp/')).status, 403);
    t.is((await ask('GET', 'nlp/')).status, 403);
  } finally {
    await writeFile(policy, text);
  }
});
