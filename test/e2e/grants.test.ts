/** How long a decision outlives what it was made of, in a running system with grants of 2 s. */
import { readFile, writeFile } from 'node:fs/promises';
import { CoreV1Api } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { readMetric } from '../support/metrics.ts';
import { claimsOf } from '../support/tokens.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const grantMs = 2_000;
/** What a watch takes to tell, and some for a machine that is busy. */
const toldMs = 3_000;
const test = anyTest as TestFn;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({ args: ['--shards', '1', '--token-seconds', '12'], environment: { KURA_AUTHZ_GRANT: `${grantMs}ms` } });
});
test.after.always(() => system?.stop());

async function checks(): Promise<number> {
  return await readMetric((await system.local()).authz.metricsUrl, 'kura_authz_checks_total');
}

test.serial('requests with one token are let in without asking authz each time', async (t) => {
  const before = await checks();
  for (let index = 0; index < 100; index++)
    t.is((await system.call({ as: 'vision/trainer', path: `/objects/vision/${index}` })).status, 404);
  const asked = (await checks()) - before;
  t.log(`${asked} checks for 100 requests`);
  t.true(asked < 50, String(asked));
});

test.serial('a changed policy governs within the grant’s time', async (t) => {
  const file = (await system.local()).policy as string;
  const original = await readFile(file, 'utf8');
  t.teardown(() => writeFile(file, original));
  const request = { as: 'vision/trainer', path: '/objects/vision/x' };
  for (let index = 0; index < 30; index++) t.is((await system.call(request)).status, 404);
  const savedAt = performance.now();
  await writeFile(
    file,
    original
      .replace(/^tests:[\s\S]*$/m, '')
      .replace('rules:', 'rules:\n  - { name: freeze, effect: deny, subjects: [{ namespaces: [vision] }], verbs: [GET], keys: [""] }'),
  );
  await waitFor('it is refused', async () => (await system.call(request)).status === 403);
  const tookMs = performance.now() - savedAt;
  t.log(`refused after ${Math.round(tookMs)} ms`);
  t.true(tookMs < grantMs + toldMs, `${tookMs} ms`);
});

test.serial('a deleted Pod’s token is refused within the grant’s time', async (t) => {
  const token = await system.token('nlp/eval');
  const request = { token, path: '/objects/nlp/x' };
  // Each worker thread of Envoy has a grant of its own.
  for (let index = 0; index < 30; index++) t.is((await system.call(request)).status, 404);
  await system.kubernetes.api(CoreV1Api).deleteNamespacedPod({ namespace: 'nlp', name: 'eval', gracePeriodSeconds: 0 });
  const deletedAt = performance.now();
  await waitFor('it is refused', async () => (await system.call(request)).status === 401);
  const tookMs = performance.now() - deletedAt;
  t.log(`refused after ${Math.round(tookMs)} ms`);
  t.true(tookMs < grantMs + toldMs, `${tookMs} ms`);
});

test.serial('past the token’s end every request asks authz', async (t) => {
  const token = await system.token('nlp/trainer');
  const endsAt = (claimsOf(token).exp as number) * 1000;
  const request = { token, path: '/objects/nlp/x' };
  t.is((await system.call(request)).status, 404);
  await waitFor('the token’s end', () => Date.now() > endsAt, { withinMs: 30_000 });
  const before = await checks();
  for (let index = 0; index < 10; index++) await system.call(request);
  t.is((await checks()) - before, 10);
});
