import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { metric, startTestShard, type TestShard } from './support/shard.ts';

interface RawClient {
  readonly socket: Socket;
  text(): string;
  /** Resolves when the shard has closed the connection. */
  readonly closed: Promise<unknown>;
}

async function rawClient(t: ExecutionContext, shard: TestShard): Promise<RawClient> {
  const [host, port] = shard.address.split(':') as [string, string];
  const socket = connect(Number(port), host);
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  let text = '';
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1');
  });
  // `once` of node:events would reject on 'error', and a server may reset the connection after invalid bytes.
  const closed = new Promise((resolve) => socket.on('close', resolve));
  await once(socket, 'connect');
  return { socket, text: () => text, closed };
}

const temporaryFiles = async (shard: TestShard) => (await readdir(path.join(shard.directory, 'temporary'))).length;

test('pipelined requests get their responses in order, also with plain and unusual requests mixed', async (t) => {
  // The connection ends after it was idle for this time.
  const shard = await startTestShard(t, { environment: { KURA_CACHE_KEEP_ALIVE: '2s' } });
  await call(shard.url, { method: 'PUT', path: '/objects/a', body: 'AAAA' });
  const client = await rawClient(t, shard);
  const get = 'GET /objects/a HTTP/1.1\r\nHost: k\r\n\r\n';
  client.socket.write(
    `${get}${get}PUT /objects/b HTTP/1.1\r\nHost: k\r\nContent-Length: 4\r\n\r\nBBBBGET /objects/b HTTP/1.1\r\nHost: k\r\n\r\nHEAD /objects/a HTTP/1.1\r\nHost: k\r\n\r\nGET /objects/none HTTP/1.1\r\nHost: k\r\n\r\nDELETE /objects/b HTTP/1.1\r\nHost: k\r\n\r\nGET /healthz HTTP/1.1\r\nHost: k\r\n\r\n`,
  );
  await client.closed;
  const statuses = [...client.text().matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => Number(match[1]));
  t.deepEqual(statuses, [200, 200, 201, 200, 200, 404, 204, 200]);
  t.regex(client.text(), /BBBB/);
  t.is(await metric(shard, 'kura_cache_handed_over_total'), 1);
});

test('bytes that are not HTTP get 400, and the connection closes', async (t) => {
  const shard = await startTestShard(t);
  for (const garbage of [
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n',
    'hello\r\n\r\n',
    'GET /objects/a HTTP/1.1\r\nHost: k\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    'GET /objects/a HTTP/1.1\r\nHost : k\r\n\r\n',
  ]) {
    const client = await rawClient(t, shard);
    client.socket.write(Buffer.from(garbage, 'latin1'));
    await client.closed;
    t.regex(client.text(), /^HTTP\/1\.1 400 /);
    t.regex(client.text(), /"code":"bad-request"/);
    t.regex(client.text(), /x-kura-shard: kura-cache-0\/shard-0/);
  }
});

test('a head beyond 16 KiB gets 431', async (t) => {
  const shard = await startTestShard(t);
  const client = await rawClient(t, shard);
  client.socket.write(`GET /objects/a HTTP/1.1\r\nHost: k\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`);
  await client.closed;
  t.regex(client.text(), /^HTTP\/1\.1 431 /);
});

test('the connection of a head that never ends is closed', async (t) => {
  const shard = await startTestShard(t);
  const slow = await rawClient(t, shard);
  const unusual = await rawClient(t, shard);
  slow.socket.write('GET /objects/a HTTP/1.1\r\nHost:');
  unusual.socket.write(`GET /objects/a HTTP/1.1\r\nX: ${'x'.repeat(9_000)}`);
  const startedMs = performance.now();
  await Promise.all([slow.closed, unusual.closed]);
  t.true(performance.now() - startedMs < 16_000);
});

test('a client that ends its side after the request still gets the response', async (t) => {
  const shard = await startTestShard(t);
  await call(shard.url, { method: 'PUT', path: '/objects/a', body: randomBytes(2_000_000) });
  const client = await rawClient(t, shard);
  client.socket.end('GET /objects/a HTTP/1.1\r\nHost: k\r\n\r\n');
  await client.closed;
  t.is(client.text().length - client.text().indexOf('\r\n\r\n') - 4, 2_000_000);
});

test('a client that reads nothing loses its connection, and others are served meanwhile', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_READER_TIMEOUT: '500ms' } });
  const body = randomBytes(30_000_000);
  await call(shard.url, { method: 'PUT', path: '/objects/a', body });
  const client = await rawClient(t, shard);
  client.socket.pause();
  client.socket.write('GET /objects/a HTTP/1.1\r\nHost: k\r\n\r\n');
  t.true((await call(shard.url, { path: '/objects/a' })).body.equals(body));
  await waitFor('the connection is cut', async () => (await metric(shard, 'kura_cache_connections')) === 0);
  t.is(await metric(shard, 'kura_cache_buffer_bytes'), 0);
});

test('an upload that stalls or disconnects leaves no file and no room in use', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_WRITER_TIMEOUT: '300ms' } });
  const heads = ['Content-Length: 5000000', 'Transfer-Encoding: chunked'];
  for (const field of heads) {
    const isChunked = field.startsWith('T');
    const piece = Buffer.concat([Buffer.from(isChunked ? '2dc6c0\r\n' : ''), randomBytes(3_000_000 - (isChunked ? 100 : 0))]);
    const stalled = await rawClient(t, shard);
    stalled.socket.write(`PUT /objects/${isChunked} HTTP/1.1\r\nHost: k\r\n${field}\r\n\r\n`);
    stalled.socket.write(piece);
    const broken = await rawClient(t, shard);
    broken.socket.write(`PUT /objects/${isChunked} HTTP/1.1\r\nHost: k\r\n${field}\r\n\r\n`);
    broken.socket.write(piece, () => broken.socket.resetAndDestroy());
    await Promise.all([stalled.closed, broken.closed]);
  }
  await waitFor(
    'nothing is left',
    async () => (await temporaryFiles(shard)) === 0 && (await metric(shard, 'kura_cache_reserved_bytes')) === 0,
  );
  t.is(await metric(shard, 'kura_cache_objects'), 0);
  t.is(await metric(shard, 'kura_cache_buffer_bytes'), 0);
  t.is((await call(shard.url, { path: '/objects/false' })).status, 404);
});

test('after concurrent PUTs of one key, one whole version is stored, and readers never get a mixture', async (t) => {
  const shard = await startTestShard(t);
  const versions = Array.from({ length: 8 }, (_, at) => Buffer.alloc(700_000, 65 + at));
  let isDone = false;
  let reads = 0;
  const read = async () => {
    while (!isDone) {
      const { status, body, complete } = await call(shard.url, { path: '/objects/a' });
      if (status === 404) continue;
      reads += 1;
      t.true(complete && body.length === 700_000 && versions.some((version) => version.equals(body)));
    }
  };
  const readers = [read(), read(), read()];
  for (let round = 0; round < 5; round += 1) {
    const answers = await Promise.all(
      versions.map((body) => call(shard.url, { method: 'PUT', path: '/objects/a', body, headers: { 'content-length': body.length } })),
    );
    t.true(answers.every(({ status }) => status === 201));
    const { headers } = await call(shard.url, { path: '/objects/a' });
    t.true(answers.some((answer) => answer.headers.etag === headers.etag));
  }
  isDone = true;
  await Promise.all(readers);
  t.true(reads > 5);
  t.is(await metric(shard, 'kura_cache_objects'), 1);
  await waitFor('old versions are freed', async () => (await metric(shard, 'kura_cache_reserved_bytes')) === 0);
});

test('after SIGTERM a request in progress completes, health is 503, and idle connections close', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_DRAIN: '3s', KURA_CACHE_GRACE: '5s' } });
  const idle = await rawClient(t, shard);
  idle.socket.write('GET /objects/none HTTP/1.1\r\nHost: k\r\n\r\n');
  const upload = await rawClient(t, shard);
  upload.socket.write('PUT /objects/a HTTP/1.1\r\nHost: k\r\nContent-Length: 4\r\n\r\nAA');
  await waitFor('both have started', () => idle.text().includes('404'));
  const closing = shard.close();
  const health = await call(shard.url, { path: '/healthz' });
  t.is(health.status, 503);
  t.is((await call(shard.metricsUrl, { path: '/readyz' })).status, 503);
  t.is((await call(shard.url, { method: 'PUT', path: '/objects/b', body: 'still accepted' })).status, 201);
  await idle.closed;
  upload.socket.write('AA');
  await upload.closed;
  t.regex(upload.text(), /^HTTP\/1\.1 201 /);
  t.regex(upload.text(), /connection: close/);
  await closing;
});
