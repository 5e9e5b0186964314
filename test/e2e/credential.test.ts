/** Only Envoy may speak to a shard, and its credential changes without an error. */
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import anyTest, { type TestFn } from 'ava';
import { credentialFiles } from '../../services/local/credential.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({ args: ['--shards', '2'] });
});
test.after.always(() => system?.stop());

test.serial('a shard answers Envoy, and nobody who goes to its port', async (t) => {
  const path = '/objects/vision/x';
  t.is((await system.call({ as: 'vision/trainer', method: 'PUT', path, body: 'x' })).status, 201);
  const token = await system.token('vision/trainer');
  for (const { url } of (await system.local()).shards) {
    for (const method of ['GET', 'PUT', 'DELETE']) {
      const headers = { 'x-kura-namespace': 'vision', 'x-kura-credential': 'a-guess-0123456789' };
      const answer = await call(url, { method, path, token, headers, ...(method === 'PUT' ? { body: 'y' } : {}) });
      t.is(answer.status, 401);
      t.is(JSON.parse(answer.body.toString()).code, 'bad-credential');
    }
  }
  t.is((await system.call({ as: 'vision/trainer', path })).body.toString(), 'x');
  const { envoy, shard } = credentialFiles(system.stateDirectory);
  for (const file of [envoy, shard]) t.is((await stat(file)).mode & 0o777, 0o600);
  t.false(system.output().includes(await readFile(envoy, 'utf8')));
});

test.serial('a client’s own credential header never reaches a shard in its place', async (t) => {
  const headers = { 'x-kura-credential': 'a-guess-0123456789' };
  t.is((await system.call({ as: 'vision/trainer', path: '/objects/vision/x', headers })).status, 200);
});

test.serial('a rotation under load refuses nothing', async (t) => {
  const { envoy, shard } = credentialFiles(system.stateDirectory);
  const [former, next] = [await readFile(envoy, 'utf8'), 'the-next-credential-0123456789'];
  const replace = async (file: string, text: string): Promise<void> => {
    await writeFile(`${file}.new`, text, { mode: 0o600 });
    await rename(`${file}.new`, file);
  };
  const accepted = async (credential: string): Promise<boolean[]> =>
    Promise.all(
      (await system.local()).shards.map(async ({ url }) => {
        const { status } = await call(url, { path: '/objects/vision/none', headers: { 'x-kura-credential': credential } });
        return status === 404;
      }),
    );
  /** When Envoy took its credential from the file. */
  const lastUpdate = async (): Promise<string | undefined> => {
    const { body } = await call((await system.local()).envoyAdminUrl, { path: '/config_dump?resource=dynamic_active_secrets' });
    return /"last_updated": "([^"]+)"/.exec(body.toString())?.[1];
  };
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
    await replace(shard, `${next}\n${former}\n`);
    await waitFor('shards know both', async () => (await accepted(next)).every(Boolean));
    const before = await lastUpdate();
    await replace(envoy, next);
    await waitFor('Envoy has read the next one', async () => (await lastUpdate()) !== before);
    await replace(shard, `${next}\n`);
    await waitFor('shards have forgotten the former', async () => (await accepted(former)).every((each) => !each));
    for (let index = 0; index < 100; index++) {
      t.is((await system.call({ as: 'vision/trainer', path: `/objects/vision/absent-${index}` })).status, 404);
    }
  } finally {
    isOver = true;
    await load;
  }
  t.deepEqual([...statuses.keys()], [404], JSON.stringify([...statuses]));
});
