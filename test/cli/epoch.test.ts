import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ObjectServer, startObjectServer } from '../support/object-server.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';

const main = path.resolve(import.meta.dirname, '..', '..', 'services', 'cli', 'main.ts');

interface EndedProcess {
  readonly status: number | null;
  readonly output: string;
}

interface Fixture {
  readonly server: ObjectServer;
  readonly data: string;
  readonly local: string;
  readonly tokenFile: string;
  readonly epoch: (...args: string[]) => Promise<EndedProcess>;
  readonly start: (...args: string[]) => { readonly process: ChildProcess; readonly ended: Promise<EndedProcess> };
}

/** A folder of three files (one empty, one of several pieces) and a server to read them through. */
async function startFixture(t: ExecutionContext, name = 'data'): Promise<Fixture> {
  const folder = await temporaryFolder(t);
  const server = await startObjectServer();
  t.teardown(() => server.close());
  const data = path.join(folder, name);
  await mkdir(path.join(data, 'sub'), { recursive: true });
  await writeFile(path.join(data, 'a.jpg'), 'a'.repeat(1000));
  await writeFile(path.join(data, 'empty'), '');
  await writeFile(path.join(data, 'sub', 'large'), Buffer.alloc(3_000_000, 'kura '));
  const tokenFile = path.join(folder, 'token');
  await writeFile(tokenFile, 'first');
  const local = path.join(folder, 'local.json');
  await writeFile(local, JSON.stringify({ url: server.url, tokens: { 'vision/trainer': tokenFile }, shards: [] }));
  const start = (...args: string[]) => {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, main, 'epoch', data, '--local', local, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
    const ended = once(child, 'close').then(([status]) => ({ status: status as number | null, output }));
    return { process: child, ended };
  };
  return { server, data, local, tokenFile, start, epoch: (...args) => start(...args).ended };
}

test.serial('the first epoch misses and stores every file, the second epoch hits every file', async (t) => {
  const { server, epoch } = await startFixture(t);
  const { status, output } = await epoch();
  t.is(status, 0, output);
  t.regex(output, /3 files, 2\.9 MiB/);
  t.regex(output, /epoch 1: 0 hits \(0\.0 %\), 3 misses, 0 failures, 0 differences/);
  t.regex(
    output,
    /epoch 2: 3 hits \(100\.0 %\), 0 misses, 0 failures, 0 differences; [\d,]+ objects\/s, [\d.]+ [KM]iB\/s; p50 .* ms, p99 .* ms/,
  );
  t.deepEqual([...server.objects.keys()].sort(), ['vision/data/a.jpg', 'vision/data/empty', 'vision/data/sub/large']);
});

test.serial('with --through kura fetches the misses, and nothing is uploaded', async (t) => {
  const { server, epoch, data } = await startFixture(t);
  const stored = new Set<string>();
  server.intercept = ({ url = '', method }, response) => {
    const name = url.slice('/through/vision/data/'.length);
    if (method !== 'GET' || !url.startsWith('/through/')) return false;
    if (name === 'empty') response.writeHead(404).end('{"code":"origin-miss","detail":"The origin does not have it."}');
    else {
      const body = readFileSync(path.join(data, name));
      response.writeHead(200, { 'content-length': body.length, 'x-kura-cache': stored.has(name) ? 'hit' : 'wait' }).end(body);
      stored.add(name);
    }
    return true;
  };
  const { status, output } = await epoch('--through');
  t.is(status, 1);
  t.regex(output, /epoch 1: 0 hits \(0\.0 %\), 2 fetched from the origin, 1 failures \(1 × GET 404\), 0 differences/);
  t.regex(output, /epoch 2: 2 hits \(66\.7 %\), 0 fetched from the origin, 1 failures/);
  t.regex(output, /failure: empty: GET vision\/data\/empty returned 404 origin-miss: The origin does not have it/);
  t.true(server.requests.every(({ method }) => method === 'GET'));
  t.regex((await epoch('--through', '--direct')).output, /cannot be used with option '--direct'/);
});

test.serial('a byte that differs is reported and the exit status is 1', async (t) => {
  const { server, epoch } = await startFixture(t);
  await epoch('--epochs', '1');
  const large = server.objects.get('vision/data/sub/large') as Buffer;
  large.writeUInt8(0, 2_999_999);
  const { status, output } = await epoch('--epochs', '1');
  t.is(status, 1);
  t.regex(output, /2 hits \(66\.7 %\), 0 misses, 0 failures, 1 differences/);
  t.regex(output, /difference: sub\/large: bytes differ from the file between \d+ and 3000000/);
});

test.serial('an object that is longer or shorter than the file is a difference', async (t) => {
  const { server, epoch } = await startFixture(t);
  server.objects.set('vision/data/a.jpg', Buffer.from('a'.repeat(999)));
  server.objects.set('vision/data/empty', Buffer.from('x'));
  const { status, output } = await epoch('--epochs', '1');
  t.is(status, 1);
  t.regex(output, /2 differences/);
  t.regex(output, /a\.jpg: the object has 999 bytes, the file has 1000/);
});

test.serial('an incomplete transfer is a failure and not a hit', async (t) => {
  const { server, epoch } = await startFixture(t);
  server.intercept = (request, response) => {
    if (request.method !== 'GET' || !request.url?.endsWith('large')) return false;
    response.writeHead(200, { 'content-length': 3_000_000 });
    response.write(Buffer.alloc(1000, 'kura '), () => response.destroy());
    return true;
  };
  const { status, output } = await epoch('--epochs', '1');
  t.is(status, 1);
  t.regex(output, /0 hits .* 2 misses, 1 failures \(1 × broken connection\), 0 differences/);
  t.regex(output, /failure: sub\/large: /);
});

test.serial('only 503 is retried, with backoff', async (t) => {
  const { server, epoch } = await startFixture(t);
  const answered = new Map<string, number>();
  server.intercept = (request, response) => {
    const times = answered.get(request.url ?? '') ?? 0;
    answered.set(request.url ?? '', times + 1);
    const status = request.url?.endsWith('a.jpg') ? (times < 2 ? 503 : undefined) : request.url?.endsWith('large') ? 507 : undefined;
    if (status === undefined) return false;
    request.resume();
    response.writeHead(status).end('{"code":"test"}');
    return true;
  };
  const { status, output } = await epoch('--epochs', '1', '--workers', '1');
  t.is(status, 1);
  t.regex(output, /2 misses, 1 failures \(1 × GET 507\), .*; 2 retries/);
  t.regex(output, /failure: sub\/large: GET vision\/data\/sub\/large returned 507 test/);
  t.is(answered.get('/objects/vision/data/sub/large'), 1);
  t.is(answered.get('/objects/vision/data/a.jpg'), 4, 'two 503, a miss, a PUT');
});

test.serial('a token that is replaced during a run is used', async (t) => {
  const { server, tokenFile, epoch } = await startFixture(t);
  let asked = 0;
  server.intercept = (_request, response) => {
    if (++asked > 1) return false;
    // Longer than the client keeps the token without checking its file.
    const later = (): unknown => setTimeout(() => response.writeHead(404).end(), 1_200);
    void writeFile(`${tokenFile}.new`, 'second')
      .then(() => rename(`${tokenFile}.new`, tokenFile))
      .then(later);
    return true;
  };
  const { status, output } = await epoch('--epochs', '1', '--workers', '1');
  t.is(status, 0, output);
  const [first, ...others] = server.requests.map(({ authorization }) => authorization);
  t.is(first, 'Bearer first');
  t.deepEqual([...new Set(others)], ['Bearer second']);
});

test.serial('names that a key cannot contain are encoded, and entries that are not files are reported and skipped', async (t) => {
  const { server, data, epoch } = await startFixture(t);
  const names = ['with space', '100%', '#1?', 'back\\slash', 'übung', '日本'];
  for (const name of names) await writeFile(path.join(data, name), name);
  await symlink('a.jpg', path.join(data, 'link'));
  await symlink('absent', path.join(data, 'dangling'));
  await writeFile(Buffer.concat([Buffer.from(`${data}/latin-`), Buffer.from([0xfc])]), 'x');
  const { status, output } = await epoch();
  t.is(status, 0, output);
  t.regex(output, new RegExp(`epoch 2: ${5 + names.length} hits \\(100\\.0 %\\)`));
  t.regex(output, /skipped 1 entries that are not files and not links to files, such as dangling\n/);
  t.true(server.objects.has('vision/data/with%20space'));
  t.true(server.objects.has('vision/data/back%7F5Cslash'));
  t.true(server.objects.has('vision/data/latin-%FC'));
});

test.serial('a missing system and an unknown namespace are reported in one line with exit status 2', async (t) => {
  const { epoch, tokenFile } = await startFixture(t);
  for (const [args, complaint] of [
    [['--local', '/does/not/exist'], /^kura: \/does\/not\/exist does not exist: start the local system with `npm start`/],
    [['--local', tokenFile], /^kura: \S+ is not the local\.json of a local system$/m],
    [['--local', path.dirname(tokenFile)], /^kura: EISDIR/],
    [['--prefix', 'nlp/x'], /^kura: no token for namespace nlp: set --token-file, or use a key that begins with vision\/$/m],
    [['--token-file', '/does/not/exist'], /^kura: the token file \/does\/not\/exist does not exist$/m],
    [['--workers', '0'], /It must be a whole number from 1 to 1024/],
  ] as const) {
    const { status, output } = await epoch(...args);
    t.is(status, 2);
    t.regex(output, complaint);
  }
});

test.serial('a local.json of a stopped system is reported once, with exit status 2', async (t) => {
  const { server, epoch } = await startFixture(t);
  await server.close();
  const { status, output } = await epoch();
  t.is(status, 2);
  t.regex(
    output,
    /^kura epoch: no response from http:\/\/127\.0\.0\.1:\d+: .*\nkura: no response from http:\/\/127\.0\.0\.1:\d+ for 10 s: .*ECONNREFUSED.*\n$/,
  );
});

test.serial('an empty folder and a missing folder are reported with exit status 2', async (t) => {
  const { data, epoch } = await startFixture(t);
  await rm(data, { recursive: true });
  t.like(await epoch(), { status: 2, output: `kura: ENOENT: no such file or directory, scandir '${data}'\n` });
  await mkdir(data);
  t.like(await epoch(), { status: 2, output: `kura: ${data} contains no files\n` });
});

test.serial('a server that always returns 503 fails after four tries per object, and the failures are counted by kind', async (t) => {
  const { server, epoch } = await startFixture(t);
  server.intercept = (request, response) => {
    request.resume();
    response.writeHead(503, { 'retry-after': '1' }).end('{"code":"shard-unavailable"}');
    return true;
  };
  const { status, output } = await epoch('--epochs', '1');
  t.is(status, 1);
  t.regex(output, /0 hits .* 0 misses, 3 failures \(3 × GET 503\), 0 differences; .*; 9 retries/);
  t.is(server.requests.length, 12);
});

test.serial('--token-file replaces the token of the local system', async (t) => {
  const { server, local, tokenFile, epoch } = await startFixture(t);
  await writeFile(local, JSON.stringify({ url: server.url, tokens: {}, shards: [] }));
  const { status, output } = await epoch('--token-file', tokenFile, '--prefix', 'other/x', '--epochs', '1');
  t.is(status, 0, output);
  t.true(server.objects.has('other/x/a.jpg'));
  t.deepEqual([...new Set(server.requests.map(({ authorization }) => authorization))], ['Bearer first']);
});

test.serial('a terminal shows a bar that disappears at the end of the epoch', async (t) => {
  const { data, local } = await startFixture(t);
  const words = [process.execPath, main, 'epoch', data, '--local', local, '--epochs', '1'].map((word) => `'${word}'`);
  const child = spawn('script', ['-qec', words.join(' '), '/dev/null'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  t.deepEqual(await once(child, 'close'), [0, null]);
  t.regex(output, /epoch 1 ░{30} 0 % · 0 of 3 · 0 B\/s · 0 objects\/s/);
  const [shown] = output.split('\r').slice(-2);
  t.regex(shown as string, /epoch 1: 0 hits/);
});

test.serial('a file that disappears between listing and reading fails only that file', async (t) => {
  const { server, data, epoch } = await startFixture(t);
  server.intercept = (request) => {
    if (request.method === 'GET') rmSync(path.join(data, 'a.jpg'), { force: true });
    return false;
  };
  const { status, output } = await epoch('--epochs', '1', '--workers', '1');
  t.is(status, 1);
  t.regex(output, /2 misses, 1 failures/);
  t.regex(output, /failure: a\.jpg: ENOENT/);
});

test.serial('Ctrl-C prints the figures so far and exits with 130', async (t) => {
  const { server, start } = await startFixture(t);
  let asked = 0;
  server.intercept = (request) => request.method === 'GET' && ++asked > 1;
  const child = start('--workers', '1');
  await waitFor('the second object is under way', () => asked > 1);
  child.process.kill('SIGINT');
  const { status, output } = await child.ended;
  t.is(status, 130, output);
  t.regex(
    output,
    /epoch 1: interrupted: 1 of 3 files: 0 hits, 1 misses, 0 failures, 0 differences; .*\nRepeat with: kura epoch \S+data --local \S+ --workers 1\n/,
  );
});

test.serial('a file that disappears while its object is a hit fails only that file, and the run continues', async (t) => {
  const { server, data, epoch } = await startFixture(t);
  await epoch('--epochs', '1');
  server.intercept = (request) => {
    if (request.method === 'GET' && request.url?.endsWith('large')) rmSync(path.join(data, 'sub', 'large'), { force: true });
    return false;
  };
  const { status, output } = await epoch('--epochs', '1', '--workers', '1');
  t.is(status, 1, output);
  t.regex(output, /2 hits .* 0 misses, 1 failures \(1 × ENOENT\), 0 differences/);
  t.regex(output, /failure: sub\/large: ENOENT/);
});

test.serial('a folder name that a key cannot contain is encoded like the names in the folder', async (t) => {
  const { server, epoch } = await startFixture(t, 'my data #1');
  const { status, output } = await epoch('--epochs', '1');
  t.is(status, 0, output);
  t.true(server.objects.has('vision/my%20data%20%231/a.jpg'));
});
