/** What a namespace's limits do to its own traffic and to others', through the real Envoy. */
import { readFile, writeFile } from 'node:fs/promises';
import test from 'ava';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

let system: LocalSystem;
let policy: string;
test.before(async () => {
  system = await startLocalSystem({ args: ['--shards', '1'] });
  policy = await readFile((await system.local()).policy as string, 'utf8');
});
test.after.always(() => system?.stop());

async function limit(limits: string): Promise<void> {
  await writeFile((await system.local()).policy as string, `${policy}\noverrides: [{ namespaces: [vision], limits: ${limits} }]\n`);
}

const path = '/objects/vision/limited';

test.serial('a namespace that has had its bytes waits until they are made up, and another one does not', async (t) => {
  const body = Buffer.alloc(1_000_000, 'x');
  await limit('{ bytesPerSecond: 100000 }');
  // Each try owes ten seconds' worth, if the limit is in force yet; asking for a single byte owes next to nothing.
  const refused = await waitFor('a refusal', async () => {
    await system.call({ as: 'vision/trainer', method: 'PUT', path, body });
    const answered = async () => {
      const answer = await system.call({ as: 'vision/trainer', path, headers: { range: 'bytes=0-0' } });
      return answer.status === 429 && answer;
    };
    return waitFor('Envoy to tell of it', answered, { withinMs: 5_000 });
  });
  t.true(Number(refused.headers['retry-after']) >= 1);
  t.is(refused.headers['content-type'], 'application/problem+json');
  t.like(JSON.parse(refused.body.toString()), {
    code: 'too-many-requests',
    detail: 'the policy limits vision to 100000 bytes a second at each Envoy',
  });
  t.is((await system.call({ as: 'nlp/trainer', path: '/objects/nlp/x' })).status, 404);
  await waitFor('it is let in again', async () => (await system.call({ as: 'vision/trainer', path })).status === 200);
});

test.serial('a namespace that asks too often is held back rather than refused as long as its turn is near', async (t) => {
  await limit('{ requestsPerSecond: 20 }');
  const ask = async (): Promise<number> => (await system.call({ as: 'vision/trainer', method: 'HEAD', path })).status;
  const burst = (count: number): Promise<number[]> => Promise.all(Array.from({ length: count }, ask));
  await waitFor('the limit is in force', async () => (await burst(60)).includes(429));
  const statuses = new Set<number>();
  for (let index = 0; index < 40; index++) statuses.add(await ask());
  t.deepEqual([...statuses], [200]);
  t.is((await system.call({ as: 'nlp/trainer', path: '/objects/nlp/x' })).status, 404);
});
