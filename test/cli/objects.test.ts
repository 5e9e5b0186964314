import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { startKura } from './support/kura.ts';

test.serial('get returns the object of put, stat describes it, and rm removes it', async (t) => {
  const { server, folder, run } = await startKura(t);
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251));
  await writeFile(path.join(folder, 'a.bin'), bytes);
  t.like(await run(['put', 'a.bin', 'vision/a.bin']), { status: 0, stdout: 'stored vision/a.bin, 293.0 KiB\n', stderr: '' });
  t.true(server.objects.get('vision/a.bin')?.equals(bytes));
  t.is((await run(['get', 'vision/a.bin'])).stdout, bytes.toString('latin1'));
  t.like(await run(['get', 'vision/a.bin', '-o', 'b.bin']), { status: 0, stdout: `${folder}/b.bin, 293.0 KiB\n` });
  t.true((await readFile(path.join(folder, 'b.bin'))).equals(bytes));
  t.regex((await run(['stat', 'vision/a.bin'])).stdout, /^vision\/a\.bin\n {2}size {2}293\.0 KiB \(300000 bytes\)\n/);
  t.like(await run(['rm', 'vision/a.bin']), { status: 0, stdout: 'removed vision/a.bin\n' });
  t.is(server.objects.size, 0);
  t.deepEqual([...new Set(server.requests.map(({ authorization }) => authorization))], ['Bearer secret-token']);
});

test.serial('put streams standard input, and an object can be empty', async (t) => {
  const { server, run } = await startKura(t);
  t.is((await run(['put', '-', 'vision/in'], { stdin: 'x'.repeat(1_000_000) })).status, 0);
  t.is(server.objects.get('vision/in')?.length, 1_000_000);
  t.is((await run(['put', '-', 'vision/empty'])).status, 0);
  t.like(await run(['get', 'vision/empty']), { status: 0, stdout: '' });
});

test.serial('a missing object is reported with exit status 3 and leaves no file', async (t) => {
  const { folder, run } = await startKura(t);
  for (const args of [
    ['get', 'vision/no'],
    ['stat', 'vision/no'],
    ['rm', 'vision/no'],
    ['get', 'vision/no', '-o', 'no'],
  ]) {
    const { status, stdout, stderr } = await run(args);
    t.is(status, 3, args.join(' '));
    t.is(stdout, '');
    t.is(stderr, `kura ${args[0]}: object vision/no does not exist\n`);
  }
  t.false(existsSync(path.join(folder, 'no')));
});

test.serial('an error response is reported with its code and exit status 1; only 503 is retried', async (t) => {
  const { server, folder, run } = await startKura(t);
  await writeFile(path.join(folder, 'a'), 'a');
  let status = 403;
  server.intercept = (request, response) => {
    request.resume();
    response
      .writeHead(status, { 'content-type': 'application/problem+json' })
      .end('{"status":403,"code":"forbidden","detail":"no rule allows it"}');
    return true;
  };
  t.like(await run(['put', 'a', 'nlp/a']), { status: 1, stderr: `kura put nlp/a: 403 forbidden: no rule allows it\n` });
  t.like(await run(['get', 'nlp/a']), { status: 1, stderr: `kura get nlp/a: 403 forbidden: no rule allows it\n` });
  t.is(server.requests.length, 2);
  status = 503;
  t.is((await run(['put', 'a', 'nlp/a'])).status, 1);
  t.is(server.requests.length, 6, 'four tries');
  t.is((await run(['put', '-', 'nlp/a'], { stdin: 'a' })).status, 1);
  t.is(server.requests.length, 10, 'standard input waits until the server accepts it');
  server.intercept = (request, response) => {
    request.resume().on('end', () => response.writeHead(503).end());
    return true;
  };
  t.is((await run(['put', '-', 'nlp/a'], { stdin: 'a' })).status, 1);
  t.is(server.requests.length, 11, 'standard input is sent once');
});

test.serial('an incomplete transfer exits with 1 and leaves no file', async (t) => {
  const { server, folder, run } = await startKura(t);
  server.intercept = (_request, response) => {
    response.writeHead(200, { 'content-length': 1_000_000 });
    response.write(Buffer.alloc(1000), () => response.destroy());
    return true;
  };
  const { status, stderr } = await run(['get', 'vision/a', '-o', 'a']);
  t.is(status, 1);
  t.regex(stderr, /^kura: .+\n$/);
  t.false(existsSync(path.join(folder, 'a')));
  t.false(existsSync(path.join(folder, 'a.part')));
});

test.serial('a PUT that the shard accepts but does not keep is reported', async (t) => {
  const { server, run } = await startKura(t);
  server.intercept = (request, response) => {
    request.resume().on('end', () => response.writeHead(201, { 'x-kura-stored': 'no', 'content-length': 0 }).end());
    return true;
  };
  t.regex((await run(['put', '-', 'vision/a'], { stdin: 'a' })).stdout, /^not stored: the shard accepted vision\/a but did not keep it/);
  t.like(JSON.parse((await run(['put', '-', 'vision/a', '--json'], { stdin: 'a' })).stdout), { key: 'vision/a', bytes: 1, stored: false });
});

test.serial('--json prints one JSON object per result', async (t) => {
  const { server, folder, run } = await startKura(t);
  server.objects.set('vision/a', Buffer.from('abc'));
  const json = async (...args: string[]): Promise<Record<string, unknown>> => JSON.parse((await run([...args, '--json'])).stdout);
  t.like(await json('stat', 'vision/a'), { key: 'vision/a', bytes: 3 });
  t.like(await json('get', 'vision/a', '-o', 'out'), { key: 'vision/a', bytes: 3, file: path.join(folder, 'out') });
  t.like(await json('rm', 'vision/a'), { key: 'vision/a', removed: true });
  t.like(await run(['get', 'vision/a', '--json']), {
    status: 2,
    stderr: 'kura: --json requires --output, because the object itself goes to standard output\n',
  });
});

test.serial('--prefix is added to the name, and a name that cannot be a key is reported', async (t) => {
  const { server, run } = await startKura(t);
  await run(['put', '-', '/a', '--prefix', '/vision/run 7/'], { stdin: 'x' });
  t.deepEqual([...server.objects.keys()], ['vision/run%207/a']);
  t.like(await run(['get', 'vision/../nlp/a']), {
    status: 2,
    stderr: 'kura: "vision/../nlp/a" is not a valid key: 1 to 1,024 bytes without a . or .. segment\n',
  });
});

test.serial('flags override the environment, which overrides ~/.config/kura.json', async (t) => {
  const { server, home, folder, tokenFile, run } = await startKura(t);
  const other = path.join(folder, 'other-token');
  await writeFile(other, 'other');
  const config = path.join(home, '.config', 'kura.json');
  await writeFile(config, JSON.stringify({ server: server.url, tokenFile: other, prefix: 'vision/config' }));
  const put = (args: string[], environment: Record<string, string> = {}) => run(['put', '-', 'a', ...args], { stdin: 'x', environment });
  await put([]);
  await put([], { KURA_TOKEN_FILE: tokenFile, KURA_PREFIX: 'vision/environment' });
  await put(['--prefix', 'vision/flag'], { KURA_PREFIX: 'vision/environment' });
  await put(['--token-file', 'token'], { KURA_TOKEN_FILE: other });
  t.deepEqual(
    server.requests.map(({ key, authorization }) => [key, authorization]),
    [
      ['vision/config/a', 'Bearer other'],
      ['vision/environment/a', 'Bearer secret-token'],
      ['vision/flag/a', 'Bearer other'],
      ['vision/config/a', 'Bearer secret-token'],
    ],
  );
  for (const [text, complaint] of [
    ['[]', /kura\.json is not a JSON object/],
    ['{', /kura\.json is not a JSON object/],
    ['{"serve": "x"}', /kura\.json: unknown field "serve"; known fields are server, tokenFile, prefix/],
    ['{"server": 1}', /kura\.json: server is 1; it must be a string/],
    ['{"server": "kura"}', /the server is "kura"; --server must be a URL such as /],
  ] as const) {
    await writeFile(config, text);
    const { status, stderr } = await put([]);
    t.is(status, 2);
    t.regex(stderr, complaint);
  }
});

test.serial('missing files and arguments are reported with exit status 2', async (t) => {
  const { server, folder, tokenFile, run } = await startKura(t);
  const emptyFile = path.join(folder, 'empty');
  await writeFile(emptyFile, '\n');
  for (const [args, environment, complaint] of [
    [['get', 'a'], {}, /^kura: \S+local\.json does not exist: start the local system with `npm start`/],
    [['get', 'a'], { KURA_SERVER: server.url }, /^kura: no token for namespace a: set --token-file\n$/],
    [['get', 'a'], { KURA_SERVER: server.url, KURA_TOKEN_FILE: 'absent' }, /^kura: the token file \S+absent does not exist\n$/],
    [['put', 'absent', 'a'], { KURA_SERVER: server.url, KURA_TOKEN_FILE: tokenFile }, /^kura: ENOENT/],
    [['get', 'a'], { KURA_SERVER: server.url, KURA_TOKEN_FILE: emptyFile }, /^kura: the token file \S+empty is empty\n$/],
    [['put', '.', 'a'], { KURA_SERVER: server.url, KURA_TOKEN_FILE: tokenFile }, /^kura: \S+ is not a file\n$/],
    [['put', 'a'], {}, /missing required argument/],
    [['dance'], {}, /unknown command/],
  ] as const) {
    const { status, stderr } = await run(args, { environment });
    t.is(status, 2, args.join(' '));
    t.regex(stderr, complaint);
  }
  t.false(existsSync(path.join(folder, '.kura')));
});

test.serial('every command has help', async (t) => {
  const { run } = await startKura(t);
  const { stdout } = await run(['--help']);
  for (const command of ['put', 'get', 'stat', 'rm', 'warm', 'verify', 'epoch', 'policy', 'status', 'top', 'token', 'completion']) {
    t.regex(stdout, new RegExp(`^ {2}${command} `, 'm'));
    t.is((await run([command, '--help'])).status, 0);
  }
  t.regex(stdout, /Exit status: 0 success/);
});
