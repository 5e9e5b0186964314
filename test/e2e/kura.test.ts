/** The `kura` command against a running system, through the real Envoy. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { runProgram } from '../support/program.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, shardMetric, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({
    args: ['--shards', '2', '--shard-bytes', '1Gi'],
    environment: { KURA_CONSOLE_WATCHED_INTERVAL: '500ms' },
  });
});
test.after.always(() => system?.stop());

async function kura(...args: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const words = [...args, '--local', path.join(system.stateDirectory, 'local.json')];
  const ended = await runProgram('services/cli/main.ts', words, { environment: { HOME: system.stateDirectory } });
  return { ...ended, stdout: ended.stdout.toString() };
}

test.serial('put, stat, get and rm work on a file', async (t) => {
  const folder = await temporaryFolder(t);
  const file = path.join(folder, 'a.bin');
  await writeFile(file, Buffer.alloc(5_000_000, 'kura'));
  t.like(await kura('put', file, 'vision/my 100% file'), { status: 0, stdout: 'stored vision/my%20100%25%20file, 4.8 MiB\n' });
  const { stdout } = await kura('stat', 'vision/my 100% file');
  t.regex(stdout, /size {2}4\.8 MiB \(5000000 bytes\)/);
  t.regex(stdout, /etag {2}"5000000-/);
  t.regex(stdout, /shard kura-cache-\d\/shard-0/);
  t.is((await kura('get', 'vision/my 100% file', '-o', path.join(folder, 'b.bin'))).status, 0);
  t.true((await readFile(path.join(folder, 'b.bin'))).equals(await readFile(file)));
  t.is((await kura('rm', 'vision/my 100% file')).status, 0);
  t.is((await kura('get', 'vision/my 100% file')).status, 3);
});

test.serial('each namespace has its own token, and the error for a foreign prefix is readable', async (t) => {
  t.is((await kura('put', path.join(root, 'LICENSE'), 'nlp/license')).status, 0);
  const { status, stderr } = await kura('get', 'nlp/license', '--token-file', (await system.local()).tokens['vision/eval'] as string);
  t.is(status, 1);
  t.regex(stderr, /^kura get nlp\/license: 403 forbidden: /);
  t.is((await kura('token', 'nlp/eval')).stdout.trim(), await system.token('nlp/eval'));
  t.like(await kura('token', 'nobody/x'), { status: 2 });
});

test.serial('warm, verify and epoch work on a folder', async (t) => {
  const folder = path.join(await temporaryFolder(t), 'data');
  await mkdir(folder);
  for (let index = 0; index < 50; index++) await writeFile(path.join(folder, `${index}.bin`), Buffer.alloc(index * 3_000, index));
  t.regex((await kura('warm', folder, 'vision/set')).stdout, /warm: 0 already stored .*, 50 stored, 0 failures/);
  t.regex((await kura('warm', folder, 'vision/set')).stdout, /warm: 50 already stored/);
  t.regex((await kura('verify', folder, 'vision/set')).stdout, /verify: 50 identical/);
  t.regex((await kura('epoch', folder, '--prefix', 'vision/set', '--epochs', '1')).stdout, /epoch 1: 50 hits \(100\.0 %\)/);
});

test.serial('status and top show what the shards store and serve', async (t) => {
  const { status, stdout } = await kura('status');
  t.is(status, 0, stdout);
  t.regex(stdout, /^kura-cache-0\/shard-0 +serving +\d+ .* [\d.]+ GiB /m);
  t.regex(stdout, /^2 of 2 /m);
  const shards = JSON.parse((await kura('status', '--json')).stdout) as { numbers: { objects: number } }[];
  t.true(shards.reduce((sum, { numbers }) => sum + numbers.objects, 0) >= 51);
  t.regex(stdout, /\n\nnamespace +objects +stored\nvision +\d+ +[\d.]+ MiB$/m);
  const looking = kura('top', '--interval', '2', '--times', '1');
  for (let round = 0; round < 4; round += 1) await kura('get', 'vision/set/1.bin', '-o', path.join(system.stateDirectory, 'read'));
  const top = (await looking).stdout;
  t.regex(top, /^shard +GET\/s +hit ratio +99 % within .*\nkura-cache-0\/shard-0 +\d+ /);
  t.regex(top, /^kura-cache-\d\/shard-0 +\d+ +100\.0 % +[\d.]+ ms /m);
  t.regex(top, /\n\nnamespace +objects +stored\nvision /);
});

test.serial('a shard that does not respond is reported with exit status 1', async (t) => {
  const url = (await system.local()).shards[0]?.metricsUrl as string;
  const { status, stdout } = await kura('status', '--metrics', url, 'http://127.0.0.1:1/metrics');
  t.is(status, 1);
  t.regex(stdout, /^127\.0\.0\.1:1 +no response$/m);
  t.regex(stdout, /^1 of 2 /m);
});

/** A folder of small files, and the output of `kura warm` of it. */
async function withFiles(t: ExecutionContext, count: number): Promise<string> {
  const folder = path.join(await temporaryFolder(t), 'data');
  await mkdir(folder);
  for (let index = 0; index < count; index++) await writeFile(path.join(folder, `${index}.bin`), String(index));
  return folder;
}

test.serial('warm loses no file when Envoy is killed', async (t) => {
  const folder = await withFiles(t, 2_000);
  const stored = () => shardMetric(system, 'kura_cache_requests_total', 'result="stored"');
  const before = await stored();
  const warming = kura('warm', folder, 'vision/killed', '--force');
  await waitFor('some files are stored', async () => (await stored()) > before + 100);
  await system.restarted('envoy', await system.signal('envoy', 'SIGKILL'));
  const { status, stdout, stderr } = await warming;
  t.is(status, 0, stdout + stderr);
  t.regex(stdout, /2,000 stored, 0 failures; /);
});

test.serial('warm loses no file in a namespace with a rate limit', async (t) => {
  const folder = await withFiles(t, 300);
  const file = (await system.local()).policy as string;
  const policy = await readFile(file, 'utf8');
  await writeFile(file, `${policy}\noverrides: [{ namespaces: [vision], limits: { requestsPerSecond: 50 } }]\n`);
  const ask = async (): Promise<number> => (await system.call({ as: 'vision/trainer', method: 'HEAD', path: '/objects/vision/x' })).status;
  await waitFor('the limit is in force', async () => (await Promise.all(Array.from({ length: 150 }, ask))).includes(429));
  const { status, stdout, stderr } = await kura('warm', folder, 'vision/limited', '--force', '--workers', '64');
  t.is(status, 0, stdout + stderr);
  t.regex(stdout, /300 stored, 0 failures; .*; \d+ retries/);
});
