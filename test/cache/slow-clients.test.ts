/** Clients that send or read slowly, or not at all: the shard answers all other requests in time, with limited memory. */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { type Files, systemFiles } from '../../services/cache/disk/files.ts';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { metric, startTestShard, type TestShard } from './support/shard.ts';

const put = (shard: TestShard, key: string, body: Buffer) =>
  call(shard.url, { method: 'PUT', path: `/objects/${key}`, body, headers: { 'content-length': body.length } });

function open(t: ExecutionContext, shard: TestShard): Socket {
  const { hostname, port } = new URL(shard.url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  return socket;
}

const head = (line: string, fields: Readonly<Record<string, string | number>> = {}) =>
  [`${line} HTTP/1.1`, 'host: kura', ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`), '', ''].join('\r\n');

/** A reset ends a connection too. */
const closed = (socket: Socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()));

/** Resolves when the socket accepts more bytes, or the connection has ended. */
function writable(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
  });
}

/** Everything that the shard sends until it ends the connection. */
async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await closed(socket);
  return Buffer.concat(chunks).toString('latin1');
}

test('two hundred slow uploads leave buffers for all other requests', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_BUFFER_BYTES: '4Mi' } });
  const body = randomBytes(200_000);
  t.is((await put(shard, 'cold', body)).status, 201);
  for (let at = 0; at < 200; at += 1) {
    const socket = open(t, shard);
    socket.write(head(`PUT /objects/slow/${at}`, { 'content-length': 250_000, ...callerHeaders({ namespace: 'slow' }) }));
    socket.write(randomBytes(70_000));
    const timer = setInterval(() => socket.write('x'), 50);
    socket.once('close', () => clearInterval(timer));
  }
  await waitFor('uploads wait for buffers', async () => (await metric(shard, 'kura_cache_buffer_waiters')) > 0);
  for (let at = 0; at < 10; at += 1) {
    const got = await call(shard.url, { path: '/objects/cold' });
    t.true(got.status === 200 && got.body.equals(body));
    t.is((await put(shard, `other/${at}`, randomBytes(100))).status, 201);
  }
  t.is((await call(shard.url, { path: '/healthz' })).status, 200);
  await waitFor('the slow uploads without a buffer are rejected', async () => {
    return (await metric(shard, 'kura_cache_requests_total', 'method="PUT",result="refused"')) > 100;
  });
});

test('an upload below the minimum rate is cut, an upload above it is not', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_WRITER_TIMEOUT: '1s' } });
  const slow = open(t, shard);
  slow.write(head('PUT /objects/slow', { 'content-length': 1_000_000 }));
  const trickle = setInterval(() => slow.write('x'), 20);
  const steady = open(t, shard);
  steady.write(head('PUT /objects/steady', { 'content-length': 2_000_000, connection: 'close' }));
  const answer = readAll(steady);
  let sent = 0;
  const flow = setInterval(() => {
    if (sent >= 2_000_000) return clearInterval(flow);
    steady.write(randomBytes(50_000));
    sent += 50_000;
  }, 100);
  t.teardown(() => {
    clearInterval(trickle);
    clearInterval(flow);
  });
  await closed(slow);
  t.true((await metric(shard, 'kura_cache_cut_off_total')) >= 1);
  t.regex(await answer, /^HTTP\/1\.1 201 /);
});

test('a slow disk does not count against the client', async (t) => {
  // The first block takes longer than the client has for its next bytes.
  let isFirst = true;
  const files: Files = {
    ...systemFiles,
    write: async (fd, buffer, length, position) => {
      if (isFirst && length > 200_000) {
        isFirst = false;
        await delay(3_000);
      }
      return systemFiles.write(fd, buffer, length, position);
    },
  };
  const shard = await startTestShard(t, { files, environment: { KURA_CACHE_WRITER_TIMEOUT: '2s' } });
  const body = randomBytes(2_000_000);
  t.is((await put(shard, 'a', body)).status, 201);
  t.true((await call(shard.url, { path: '/objects/a' })).body.equals(body));
});

test('a client that pipelines and reads nothing is paused', async (t) => {
  const shard = await startTestShard(t);
  const socket = open(t, shard);
  socket.pause();
  const requests = head('GET /objects/missing').repeat(2000);
  let sent = 0;
  const send = (): void => {
    while (sent < 64 * 1024 * 1024 && socket.write(requests)) sent += requests.length;
  };
  socket.on('drain', () => {
    sent += requests.length;
    send();
  });
  send();
  const misses = () => metric(shard, 'kura_cache_requests_total', 'method="GET",result="miss"');
  let before = -1;
  await waitFor('the shard reads no further', async () => {
    const now = await misses();
    const isStill = now > 0 && now === before;
    before = now;
    return isStill;
  });
  // The kernel buffers on both sides and the buffer of the shard hold fewer responses.
  t.true(before < 60_000, `${before} responses for a client that reads none`);
});

test('requests before the end of the client get responses, requests after Connection: close do not', async (t) => {
  const shard = await startTestShard(t);
  await put(shard, 'large', randomBytes(700_000));
  const ended = open(t, shard);
  ended.end(head('GET /objects/a') + head('GET /objects/b') + head('GET /objects/c'));
  t.is((await readAll(ended)).match(/HTTP\/1\.1 404 /g)?.length, 3);
  const closed = open(t, shard);
  closed.write(`${head('GET /objects/large', { connection: 'close' }) + head('PUT /objects/after', { 'content-length': 1 })}x`);
  t.is((await readAll(closed)).match(/HTTP\/1\.1 /g)?.length, 1);
  t.is((await call(shard.url, { path: '/objects/after' })).status, 404);
});

for (const [way, fields] of [
  ['with a length', { 'content-length': 120_000_000 }],
  ['chunked', { 'transfer-encoding': 'chunked' }],
] as const) {
  test(`a large rejected upload ${way} gets its response in each of 20 tries`, async (t) => {
    const shard = await startTestShard(t);
    const chunk = randomBytes(500_000);
    const framed = way === 'chunked' ? Buffer.concat([Buffer.from('7a120\r\n'), chunk, Buffer.from('\r\n')]) : chunk;
    for (let at = 0; at < 20; at += 1) {
      const socket = open(t, shard);
      const answer = readAll(socket);
      socket.write(head('PUT /objects/large', { ...fields, ...callerHeaders({ maxObjectBytes: 1_000_000 }) }));
      let isAnswered = false;
      socket.once('data', () => {
        isAnswered = true;
      });
      // As curl does: sends until it gets a response, and then ends.
      for (let sent = 0; sent < 240 && !isAnswered && !socket.destroyed; sent += 1) {
        if (!socket.write(framed)) await writable(socket);
      }
      if (way === 'chunked' && !isAnswered && !socket.destroyed) socket.write('0\r\n\r\n');
      socket.end();
      t.regex(await answer, /^HTTP\/1\.1 413 [\s\S]*"code":"too-large"/);
    }
  });
}
