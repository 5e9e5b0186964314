/** A shard answers only what authz has signed, and the key of the signatures changes without an error. */
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import anyTest, { type TestFn } from 'ava';
import { credentialFile } from '../../services/local/credential.ts';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, shardMetric, startLocalSystem } from './support/system.ts';

const grantMs = 1_000;
const test = anyTest as TestFn;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({ args: ['--shards', '2'], environment: { KURA_AUTHZ_GRANT: `${grantMs}ms` } });
});
test.after.always(() => system?.stop());

test.serial('a shard answers Envoy, and nobody who goes to its port', async (t) => {
  const path = '/objects/vision/x';
  t.is((await system.call({ as: 'vision/trainer', method: 'PUT', path, body: 'x' })).status, 201);
  const token = await system.token('vision/trainer');
  for (const { url } of (await system.local()).shards) {
    for (const method of ['GET', 'PUT', 'DELETE']) {
      for (const headers of [{}, { ...callerHeaders() }, { ...callerHeaders({ credential: 'a-guess-0123456789' }) }]) {
        const answer = await call(url, { method, path, token, headers, ...(method === 'PUT' ? { body: 'y' } : {}) });
        t.is(answer.status, 401);
        t.is(JSON.parse(answer.body.toString()).code, 'bad-caller');
      }
    }
  }
  for (const reason of ['missing', 'malformed', 'forged'])
    t.is(await shardMetric(system, 'kura_cache_bad_callers_total', `reason="${reason}"`), 6, reason);
  t.is((await system.call({ as: 'vision/trainer', path })).body.toString(), 'x');
  const file = credentialFile(system.stateDirectory);
  t.is((await stat(file)).mode & 0o777, 0o600);
  t.false(system.output().includes(await readFile(file, 'utf8')));
  t.false(system.output().includes('sig='), 'signed terms are logged nowhere');
});

test.serial('a client’s own headers never reach a shard in place of those that authz signs', async (t) => {
  const headers = { ...callerHeaders({ credential: 'a-guess-0123456789', namespace: 'nlp' }) };
  for (let round = 0; round < 10; round++)
    t.is((await system.call({ as: 'vision/trainer', path: '/objects/vision/x', headers })).status, 200);
  t.is((await system.call({ path: '/objects/vision/x', headers })).status, 401);
});

test.serial('a rotation under load refuses nothing', async (t) => {
  const file = credentialFile(system.stateDirectory);
  const [former, next] = [await readFile(file, 'utf8'), 'the-next-credential-0123456789'];
  const { shards } = await system.local();
  const replaced = (): number => system.output().split('the credentials were replaced').length - 1;
  const readers = shards.length + ['authz', 'console'].length;
  /** Resolves when each process that uses the file has read it. */
  const replace = async (...credentials: string[]): Promise<void> => {
    const before = replaced();
    await writeFile(`${file}.new`, credentials.join('\n'), { mode: 0o600 });
    await rename(`${file}.new`, file);
    await waitFor('all processes have read the file', () => replaced() === before + readers);
  };
  const accepted = async (credential: string): Promise<boolean[]> =>
    Promise.all(
      shards.map(async ({ url }) => {
        const { status } = await call(url, { path: '/objects/vision/none', headers: { ...callerHeaders({ credential }) } });
        return status === 404;
      }),
    );
  const statuses = new Map<number, number>();
  let isOver = false;
  const load = Promise.all(
    Array.from({ length: 4 }, async () => {
      for (let index = 0; !isOver; index++) {
        const { status } = await system.call({ as: 'vision/trainer', path: `/objects/vision/absent-${index % 100}` });
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    }),
  );
  try {
    t.deepEqual([await accepted(former), await accepted(next)].flat(), [true, true, false, false]);
    await replace(former, next);
    t.deepEqual([await accepted(former), await accepted(next)].flat(), [true, true, true, true]);
    await replace(next, former);
    t.deepEqual([await accepted(former), await accepted(next)].flat(), [true, true, true, true]);
    const signsSince = performance.now();
    await waitFor('no grant has a signature of the former key', () => performance.now() - signsSince > 2 * grantMs);
    await replace(next);
    t.deepEqual([await accepted(former), await accepted(next)].flat(), [false, false, true, true]);
    for (let index = 0; index < 100; index++) {
      t.is((await system.call({ as: 'vision/trainer', path: `/objects/vision/absent-${index}` })).status, 404);
    }
  } finally {
    isOver = true;
    await load;
  }
  t.deepEqual([...statuses.keys()], [404], JSON.stringify([...statuses]));
});
