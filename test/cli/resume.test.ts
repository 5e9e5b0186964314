/** `get` continues a broken transfer, and `put` asks before it sends a large body. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createAuthority } from '../../services/fake-kubernetes/certificates.ts';
import { writeCertificate } from '../support/certificates.ts';
import { passedOn } from '../support/environment.ts';
import { startObjectServer } from '../support/object-server.ts';
import { waitFor } from '../support/wait.ts';
import { type Kura, startKura } from './support/kura.ts';

const main = path.resolve(import.meta.dirname, '..', '..', 'services', 'cli', 'main.ts');
const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251));

interface Source extends Kura {
  /** The Range header of each GET. */
  readonly ranges: (string | undefined)[];
  etag: string;
  /** The body of the next responses ends after this many bytes. */
  breakAfter: number;
  /** Whether a body that ends early stays open. */
  isStalled: boolean;
}

/** A server with one object that supports If-Range. */
async function startSource(t: ExecutionContext): Promise<Source> {
  const source = { ...(await startKura(t)), ranges: [] as (string | undefined)[], etag: '"one"', breakAfter: 0, isStalled: false };
  source.server.intercept = (request: IncomingMessage, response: ServerResponse) => {
    const { range, 'if-range': condition } = request.headers;
    source.ranges.push(range);
    const from = condition === source.etag ? Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1]) : 0;
    if (from >= bytes.length) return void response.writeHead(416).end() === undefined;
    const fields = { etag: source.etag, 'content-length': bytes.length - from };
    if (from > 0) response.writeHead(206, { ...fields, 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
    else response.writeHead(200, fields);
    if (source.breakAfter === 0) return void response.end(bytes.subarray(from)) === undefined;
    response.write(bytes.subarray(from, source.breakAfter), () => source.isStalled || response.destroy());
    return true;
  };
  return source;
}

async function partHas({ folder }: Kura, length: number): Promise<void> {
  await waitFor('the part has bytes', async () => (await stat(path.join(folder, 'a.part'))).size === length);
}

/** Starts a `get` and resolves when its part has bytes. */
async function startGet(source: Source): Promise<{ child: ChildProcess; ended: Promise<{ status: number | null; stderr: string }> }> {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, main, 'get', 'vision/a', '-o', 'a'], {
    cwd: source.folder,
    env: { ...passedOn, HOME: source.home, KURA_SERVER: source.server.url, KURA_TOKEN_FILE: source.tokenFile },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const ended = once(child, 'close').then(([status]) => ({ status: status as number | null, stderr }));
  await partHas(source, source.breakAfter);
  return { child, ended };
}

test.serial('a body that breaks off is continued where it ended', async (t) => {
  const source = await startSource(t);
  source.breakAfter = 100_000;
  source.isStalled = true;
  const { intercept } = source.server;
  source.server.intercept = (request, response) => {
    if (source.ranges.length === 1) source.breakAfter = 0;
    if (source.ranges.length === 0) void partHas(source, 100_000).then(() => response.destroy());
    return intercept(request, response);
  };
  const { status, stdout, stderr } = await source.run(['get', 'vision/a', '-o', 'a']);
  t.is(status, 0, stderr);
  t.regex(stdout, /\/a, 293\.0 KiB, continued from 97\.7 KiB\n$/);
  t.deepEqual(source.ranges, [undefined, 'bytes=100000-']);
  t.true((await readFile(path.join(source.folder, 'a'))).equals(bytes));
});

test.serial('after Ctrl-C, the same command continues the part', async (t) => {
  const source = await startSource(t);
  source.breakAfter = 100_000;
  source.isStalled = true;
  const { child, ended } = await startGet(source);
  child.kill('SIGINT');
  t.deepEqual(await ended, {
    status: 130,
    stderr: 'kura get: interrupted: 97.7 KiB of 293.0 KiB\nResume with: kura get vision/a -o a\n',
  });
  t.false(existsSync(path.join(source.folder, 'a')));
  source.breakAfter = 0;
  t.like(JSON.parse((await source.run(['get', 'vision/a', '-o', 'a', '--json'])).stdout), { bytes: 300_000, continuedFrom: 100_000 });
  t.true((await readFile(path.join(source.folder, 'a'))).equals(bytes));
  for (const name of ['a.part', 'a.part.etag']) t.false(existsSync(path.join(source.folder, name)));
});

test.serial('a part of another version, of another key, or of full length is not used', async (t) => {
  const source = await startSource(t);
  const part = path.join(source.folder, 'a.part');
  const version = (key: string, etag: string): string => JSON.stringify({ key, etag });
  for (const [length, text, ranges] of [
    [100_000, version('vision/a', '"two"'), ['bytes=100000-']],
    [100_000, version('vision/b', '"one"'), [undefined]],
    [300_000, version('vision/a', '"one"'), ['bytes=300000-', undefined]],
    [100_000, 'no JSON', [undefined]],
  ] as const) {
    source.ranges.length = 0;
    await writeFile(part, Buffer.alloc(length));
    await writeFile(`${part}.etag`, text);
    t.is((await source.run(['get', 'vision/a', '-o', 'a'])).status, 0);
    t.deepEqual(source.ranges, [...ranges]);
    t.true((await readFile(path.join(source.folder, 'a'))).equals(bytes));
  }
});

test.serial('a server that returns other bytes than the requested ones is refused', async (t) => {
  const source = await startSource(t);
  await writeFile(path.join(source.folder, 'a.part'), Buffer.alloc(1000));
  await writeFile(path.join(source.folder, 'a.part.etag'), JSON.stringify({ key: 'vision/a', etag: '"one"' }));
  source.server.intercept = (_request, response) => {
    response.writeHead(206, { 'content-range': 'bytes 5-9/10', 'content-length': 5, etag: '"one"' }).end('abcde');
    return true;
  };
  t.like(await source.run(['get', 'vision/a', '-o', 'a']), { status: 1, stderr: 'kura: the server returned the bytes from 5 on\n' });
});

test.serial('an upload above 1 MiB is refused before its body, and the refusal names limit and origin', async (t) => {
  const { server, folder, run } = await startKura(t);
  await writeFile(path.join(folder, 'large'), Buffer.alloc(30_000_000));
  await writeFile(path.join(folder, 'small'), Buffer.alloc(1_000_000));
  const expectations: (string | undefined)[] = [];
  let received = 0;
  let shard = {};
  server.intercept = (request, response) => {
    expectations.push(request.headers.expect);
    request.on('data', (chunk: Buffer) => (received += chunk.length));
    response
      .writeHead(413, { ...shard, connection: 'close' })
      .end('{"status":413,"code":"too-large","detail":"the policy limits an object to 1000 bytes"}');
    return true;
  };
  const problem = '413 too-large: the policy limits an object to 1000 bytes';
  t.like(await run(['put', 'large', 'vision/a']), { status: 1, stderr: `kura put vision/a: ${problem}\n` });
  t.is(received, 0);
  shard = { 'x-kura-shard': 'kura-cache-0/shard-0' };
  t.like(await run(['put', 'large', 'vision/a']), { status: 1, stderr: `kura put vision/a: ${problem} (shard kura-cache-0/shard-0)\n` });
  t.like(await run(['put', 'small', 'vision/a']), { status: 1 });
  t.deepEqual(expectations, ['100-continue', '100-continue', undefined]);
});

test.serial('a refused upload ends while its standard input is still open', async (t) => {
  const source = await startKura(t);
  source.server.intercept = (_request, response) => {
    response.writeHead(403).end('{"status":403,"code":"forbidden"}');
    return true;
  };
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, main, 'put', '-', 'vision/a'], {
    env: { ...passedOn, HOME: source.home, KURA_SERVER: source.server.url, KURA_TOKEN_FILE: source.tokenFile },
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  t.deepEqual(await once(child, 'exit'), [1, null]);
});

test.serial('large uploads reuse their connections, and a server that ignores the expectation gets the body', async (t) => {
  const { server, folder, run } = await startKura(t);
  await run(['put', '-', 'vision/a'], { stdin: 'a' });
  const sockets = new Set<unknown>();
  await Promise.all(['a', 'b', 'c'].map((name) => writeFile(path.join(folder, `data-${name}`), Buffer.alloc(2_000_000))));
  await writeFile(path.join(folder, 'list'), 'data-a\ndata-b\ndata-c\n');
  server.intercept = (request) => {
    if (request.method === 'PUT') sockets.add(request.socket);
    return false;
  };
  t.is((await run(['warm', 'list', 'vision', '--workers', '1'])).status, 0);
  t.is(sockets.size, 1);
  server.intercept = (request, response) => {
    let length = 0;
    request.on('data', (chunk: Buffer) => (length += chunk.length));
    request.on('end', () => response.writeHead(length === 2_000_000 ? 201 : 500).end());
    // Without a call of `accept`: the client sends the body after 3 s.
    Object.defineProperty(response, 'writeContinue', { value: () => undefined });
    return true;
  };
  t.is((await run(['put', 'data-a', 'vision/a'])).status, 0);
});

test.serial('small and large objects go through TLS with a private CA, and another CA is refused', async (t) => {
  const { folder, tokenFile, run } = await startKura(t);
  await writeCertificate(folder, { authority: await createAuthority('of kura'), name: 'kura' });
  const [cert, key] = await Promise.all(['tls.crt', 'tls.key'].map((name) => readFile(path.join(folder, name))));
  const secure = await startObjectServer({ tls: { cert: cert as Buffer, key: key as Buffer } });
  t.teardown(() => secure.close());
  const environment = { KURA_SERVER: secure.url, KURA_TOKEN_FILE: tokenFile, NODE_EXTRA_CA_CERTS: path.join(folder, 'ca.crt') };
  for (const [name, length] of Object.entries({ small: 1_000, large: 2_000_000 })) {
    await writeFile(path.join(folder, name), Buffer.alloc(length));
    t.like(await run(['put', name, 'vision/'], { environment }), { status: 0, stderr: '' });
    t.is(secure.objects.get(`vision/${name}`)?.length, length);
    const refused = await run(['put', name, 'vision/'], { environment: { ...environment, NODE_EXTRA_CA_CERTS: '' } });
    t.is(refused.status, 1);
    t.regex(refused.stderr, /^kura: .*certificate.*\n$/);
  }
});
