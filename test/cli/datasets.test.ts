/** `kura ls`, `rm -r` and `status` against a scripted server. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { startKura } from './support/kura.ts';

type Reply = readonly [status: number, body: object];

const removal = {
  removal: 'AbCd',
  before: '2026-11-26T00:00:00.000Z',
  state: 'pending',
  removed: 3,
  bytes: 30,
  shards: [
    { shard: 'kura-cache-0/shard-0', state: 'done' },
    { shard: 'kura-cache-1/shard-0', state: 'pending', code: 'too-many-removals' },
  ],
};

async function setting(t: ExecutionContext, reply: (method: string, url: string) => Reply) {
  const kura = await startKura(t);
  const asked: string[] = [];
  kura.server.intercept = ({ method = '', url = '' }, response) => {
    asked.push(`${method} ${url}`);
    const [status, body] = reply(method, url);
    response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
    return true;
  };
  return { ...kura, asked };
}

test('rm -r needs a prefix, and / is the one for everything', async (t) => {
  const { run, asked } = await setting(t, () => [202, { ...removal, state: 'done', shards: [removal.shards[0]] }]);
  const stderr = 'kura: the prefix is empty; name a prefix, or / for everything\n';
  t.deepEqual(await run(['rm', '-r', '', '--yes']), { status: 2, stdout: '', stderr });
  t.like(await run(['rm', '-r', '', '--yes', '--prefix', 'vision']), { status: 2, stderr });
  t.deepEqual(asked, []);
  t.like(await run(['rm', '-r', '/', '--yes']), { status: 0, stderr: '' });
  t.deepEqual(asked, ['DELETE /datasets/']);
});

test('--yes and --removal without -r remove nothing', async (t) => {
  const { run, asked } = await setting(t, () => [204, {}]);
  for (const words of [['--yes'], ['--removal', 'AbCd']])
    t.like(await run(['rm', 'vision/a', ...words]), { status: 2, stderr: 'kura: --yes and --removal need -r\n' });
  t.deepEqual(asked, []);
});

test('rm -r does not wait for a shard that cannot begin, and prints the command that follows the removal', async (t) => {
  t.timeout(60_000);
  const { run, asked } = await setting(t, () => [202, removal]);
  const { status, stdout, stderr } = await run(['rm', '-r', "it's", '--yes', '--prefix', 'vision']);
  t.is(status, 1);
  t.regex(stdout, /^kura-cache-1\/shard-0 +pending +too-many-removals$/m);
  t.true(stderr.endsWith(`Follow it with: kura rm -r 'it'\\''s/' --raw --removal AbCd\n`), stderr);
  t.is(asked[0], "DELETE /datasets/vision/it's/");
  t.is(asked.at(-1), "GET /datasets/vision/it's/?removal=AbCd");
});

for (const [code, status, hint] of [
  ['no-such-path', 404, 'this server has no data sets; its operator can add the component console'],
  ['forbidden', 403, 'this needs LIST (rm -r: DELETE) over the whole prefix'],
  ['shard-unavailable', 503, 'the console of the server does not answer; repeat the command, or ask the operator'],
] as const)
  test(`${code} has a hint`, async (t) => {
    const { run } = await setting(t, () => [status, { status, code, detail: 'x' }]);
    t.deepEqual(await run(['ls', 'vision']), { status: 1, stdout: '', stderr: `kura: ${status} ${code}: x\n${hint}\n` });
  });

test('a list that is not complete has status 1', async (t) => {
  const { run } = await setting(t, () => [200, { complete: false }]);
  const stderr = 'kura ls: the result is not complete: a shard does not answer or counts its files\n';
  t.deepEqual(await run(['ls', 'vision']), { status: 1, stdout: '', stderr });
});

test('without a prefix, ls uses a token of the local system', async (t) => {
  const { run, server, folder, tokenFile, asked } = await setting(t, () => [200, { complete: true }]);
  const local = path.join(folder, 'local.json');
  await writeFile(local, JSON.stringify({ url: server.url, tokens: { 'vision/trainer': tokenFile }, shards: [] }));
  t.deepEqual(await run(['ls', '--local', local], { environment: {} }), { status: 0, stdout: '', stderr: '' });
  t.deepEqual(asked, ['GET /datasets/?keys&limit=4000']);
});

test('status without any shard has status 1', async (t) => {
  const { run, server } = await setting(t, () => [200, { at: '2026-11-26T00:00:00.000Z', shards: [] }]);
  const { status, stdout } = await run(['status', '--console', server.url]);
  t.is(status, 1);
  t.regex(stdout, /^0 of 0/m);
});
