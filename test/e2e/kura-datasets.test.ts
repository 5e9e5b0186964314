/** `kura ls`, `du`, `datasets` and `rm -r` against a local system. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { type Ended, runProgram } from '../support/program.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
let system: LocalSystem;

test.before(async (t) => {
  t.timeout(3 * 60_000);
  system = await startLocalSystem({
    args: ['--shards', '2', '--shard-bytes', '64Mi'],
    environment: { KURA_CONSOLE_WATCHED_INTERVAL: '500ms', KURA_CONSOLE_IDLE_INTERVAL: '500ms' },
  });
  const policy = (await system.local()).policy as string;
  const text = await readFile(policy, 'utf8');
  await writeFile(policy, text.replace(/verbs: \[GET, HEAD, PUT, DELETE.*\]/, 'verbs: [GET, HEAD, PUT, DELETE, FILL, LIST]'));
  await waitFor('LIST is allowed', async () => (await system.call({ as: 'vision/trainer', path: '/datasets/vision/' })).status === 200);
  const folder = path.join(system.stateDirectory, 'data');
  await mkdir(folder);
  for (let index = 0; index < 20; index += 1) await writeFile(path.join(folder, `${index} a.bin`), Buffer.alloc(1_000, index));
  for (const prefix of ['vision/one/x/y', 'vision/two/x/y']) {
    const { status, stderr } = await kura('warm', folder, prefix);
    if (status !== 0) throw new Error(stderr);
  }
});
test.after.always(() => system?.stop());

async function kura(...args: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const local = path.join(system.stateDirectory, 'local.json');
  const ended: Ended = await runProgram('services/cli/main.ts', [...args, '--local', local]);
  return { ...ended, stdout: ended.stdout.toString() };
}

test.serial('ls lists each key with its size, and with --json its writer', async (t) => {
  const { status, stdout } = await kura('ls', 'vision/one');
  t.is(status, 0);
  const lines = stdout.trimEnd().split('\n');
  t.is(lines.length, 20);
  for (const line of lines) t.regex(line, /^ +1000 B {2}\d{4}-\d\d-\d\dT[\d:.]+Z {2}vision\/one\/x\/y\/\d+%20a\.bin$/);
  const json = (await kura('ls', 'one/x', '--prefix', 'vision', '--json')).stdout.trimEnd().split('\n');
  t.is(json.length, 20);
  t.like(JSON.parse(json[0] as string), { size: 1_000, writer: 'vision/trainer/trainer' });
  t.deepEqual(await kura('ls', 'vision/none'), { ...(await kura('ls', 'vision/none')), status: 0, stdout: '', stderr: '' });
});

test.serial('du and datasets show objects, bytes and hit ratio', async (t) => {
  const { status, stdout } = await kura('du', 'vision');
  t.is(status, 0);
  t.regex(stdout, /^prefix +objects +stored +hit ratio +unused for\nvision\/ +40 +160\.0 KiB .* s\n$/);
  const sets = (await kura('datasets', 'vision')).stdout.trimEnd().split('\n');
  t.deepEqual(
    sets
      .slice(1)
      .map((row) => row.split(' ')[0])
      .sort(),
    ['vision/one/x/y/', 'vision/two/x/y/'],
  );
  t.is((JSON.parse((await kura('datasets', 'vision', '--json', '--limit', '1', '--sort', 'idle')).stdout) as unknown[]).length, 1);
});

test.serial('what the policy does not allow names the right that is missing', async (t) => {
  const token = (await system.local()).tokens['vision/trainer'] as string;
  for (const words of [['ls', 'nlp'], ['du', 'nlp'], ['ls'], ['rm', '-r', 'nlp', '--yes'], ['rm', '-r', '/', '--yes']]) {
    const { status, stdout, stderr } = await kura(...words, '--token-file', token);
    t.deepEqual([status, stdout], [1, ''], words.join(' '));
    t.regex(stderr, /^kura: 403 forbidden: [^\n]+\nthis needs LIST \(rm -r: DELETE\) over the whole prefix\n$/);
  }
});

test.serial('rm -r asks on a terminal only, removes a prefix, and reports each shard', async (t) => {
  const refused = await kura('rm', '-r', 'vision/one');
  t.deepEqual([refused.status, refused.stderr], [2, 'kura: standard input is not a terminal: confirm the removal with --yes\n']);
  t.like(await kura('rm', '-r', 'vision/one', 'vision/two', '--yes'), { status: 2, stderr: 'kura: with -r, name one prefix\n' });
  const { status, stdout } = await kura('rm', '-r', 'vision/one', '--yes');
  t.is(status, 0, stdout);
  t.regex(stdout, /^shard +state\nkura-cache-0\/shard-0 +done\nkura-cache-1\/shard-0 +done\n\n20 objects, 80\.0 KiB removed\n$/);
  t.is((await kura('ls', 'vision/one')).stdout, '');
  t.is((await kura('ls', 'vision/two')).stdout.trimEnd().split('\n').length, 20);
});

test.serial('a shard that is away is reported, and the removal can be followed', async (t) => {
  await system.signal('kura-cache-1', 'SIGSTOP');
  let followed: string | undefined;
  try {
    const { status, stdout, stderr } = await kura('rm', '-r', 'vision/two', '--yes');
    t.is(status, 1);
    t.regex(stdout, /^kura-cache-1\/shard-0 +away$/m);
    followed = /Follow it with: kura rm -r vision\/two\/ --raw --removal (\S+)\n$/.exec(stderr)?.[1];
    t.is((await kura('du', 'vision/two')).status, 1, 'not complete');
  } finally {
    await system.signal('kura-cache-1', 'SIGCONT');
  }
  const { status, stdout } = await kura('rm', '-r', 'vision/two', '--removal', followed as string);
  t.is(status, 0, stdout);
  t.is((await kura('ls', 'vision/two')).stdout, '');
});
