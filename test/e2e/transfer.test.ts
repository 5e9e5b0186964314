/** Large bodies through the real Envoy: whole, in constant memory, and not sent at all where they are refused. */
import { createHash, type Hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import anyTest, { type TestFn } from 'ava';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
const size = 2 ** 30;
const pauseMs = 2_000;
/** Node's and Envoy's own size, buffers and caches of descriptors; a body of 1 GiB held in memory would be far beyond. */
const memoryLimitBytes = 350 * 2 ** 20;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({ args: ['--shard-bytes', '5Gi'] });
});
test.after.always(() => system?.stop());

/** `bytes` that differ from block to block, and the hash of what has been read. */
function body(bytes: number): { stream: Readable; hash: Hash } {
  const hash = createHash('sha256');
  const block = Buffer.alloc(2 ** 20, 'kura');
  function* blocks(): Generator<Buffer> {
    for (let sent = 0; sent < bytes; sent += block.length) {
      const next = Buffer.from(block);
      next.writeUInt32BE(sent / block.length);
      hash.update(next);
      yield next;
    }
  }
  return { stream: Readable.from(blocks(), { objectMode: false }), hash };
}

async function hashOf(path: string): Promise<{ length: number; digest: string }> {
  const { url } = await system.local();
  const token = await system.token('vision/trainer');
  return await new Promise((resolve, reject) => {
    const outgoing = request(url, { path, agent: false, headers: { authorization: `Bearer ${token}` } }, (response) => {
      const hash = createHash('sha256');
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        hash.update(chunk);
        length += chunk.length;
      });
      response.on('end', () => resolve({ length, digest: hash.digest('hex') }));
      response.on('error', reject);
    });
    outgoing.on('error', reject).end();
  });
}

async function peakMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

for (const { how, headers, expect } of [
  { how: 'with a length', headers: { 'content-length': size }, expect: false },
  { how: 'with a length and Expect', headers: { 'content-length': size }, expect: true },
  { how: 'chunked', headers: { 'transfer-encoding': 'chunked' }, expect: false },
  { how: 'chunked with Expect', headers: { 'transfer-encoding': 'chunked' }, expect: true },
]) {
  test.serial(`1 GiB is stored ${how} and comes back byte for byte, in constant memory`, async (t) => {
    const path = '/objects/vision/huge';
    const { stream, hash } = body(size);
    const put = await system.call({ as: 'vision/trainer', method: 'PUT', path, headers, expect, body: stream });
    t.is(put.status, 201, put.body.toString());
    const got = await hashOf(path);
    t.is(got.length, size);
    t.is(got.digest, hash.digest('hex'));
    const { processes } = await system.local();
    for (const [name, pid] of Object.entries(processes).filter(([name]) => name === 'envoy' || name.startsWith('kura-cache-'))) {
      const peak = await peakMemory(pid);
      t.true(peak < memoryLimitBytes, `${name}: ${Math.round(peak / 2 ** 20)} MiB`);
    }
  });
}

test.serial('a denied PUT with Expect uploads nothing', async (t) => {
  for (const [what, request] of Object.entries({
    'of another prefix': { as: 'vision/trainer', path: '/objects/nlp/x' },
    'without a token': { path: '/objects/vision/x' },
  })) {
    const answer = await system.call({
      ...request,
      method: 'PUT',
      headers: { 'content-length': 300e6 },
      expect: true,
      body: body(300 * 2 ** 20).stream,
    });
    t.true(answer.status === 403 || answer.status === 401, what);
    t.false(answer.bodySent, what);
  }
});

test.serial('a refused PUT without Expect gets its response while the client still sends', async (t) => {
  const token = await system.token('vision/trainer');
  for (const [status, path, authorization, length] of [
    [401, 'vision/x', 'Bearer x', 100e6],
    [403, 'nlp/x', `Bearer ${token}`, 100e6],
    [413, 'vision/x', `Bearer ${token}`, 2 * size],
  ] as const) {
    const head = `PUT /objects/${path} HTTP/1.1\r\nhost: kura\r\nauthorization: ${authorization}\r\ncontent-length: ${length}\r\n\r\n`;
    for (let tries = 0; tries < 20; tries += 1) t.regex(await responseWhileSending(head), new RegExp(`^HTTP/1.1 ${status} `));
  }
});

/** Sends the head and up to 100 MB of a body. Resolves with what came back when the connection ends or the body of a response is there. */
async function responseWhileSending(head: string): Promise<string> {
  const { hostname, port } = new URL((await system.local()).url);
  const socket = connect(Number(port), hostname);
  let received = '';
  const ended = new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1');
      if (/"status":\d+/.test(received)) resolve();
    });
    // A reset destroys what the kernel had received: then nothing came back.
    socket.on('error', () => resolve());
    socket.on('close', () => resolve());
  });
  socket.write(head);
  const sending = pipeline(body(100e6).stream, socket, { end: false }).catch(() => undefined);
  await ended;
  socket.destroy();
  await sending;
  return received;
}

test.serial('an aborted PUT leaves what was there before', async (t) => {
  const path = '/objects/vision/aborted';
  await system.call({ as: 'vision/trainer', method: 'PUT', path, body: 'whole' });
  const { stream } = body(8 * 2 ** 20);
  const truncated = Readable.from(
    (async function* () {
      yield* stream;
      throw new Error('the client dies');
    })(),
    { objectMode: false },
  );
  const { url } = await system.local();
  const token = await system.token('vision/trainer');
  await new Promise<void>((resolve) => {
    const outgoing = request(url, {
      method: 'PUT',
      path,
      agent: false,
      headers: { authorization: `Bearer ${token}`, 'content-length': size },
    });
    outgoing.on('error', () => resolve());
    truncated.on('error', () => outgoing.destroy(new Error('gone')));
    truncated.pipe(outgoing, { end: false });
  });
  t.is((await system.call({ as: 'vision/trainer', path })).body.toString(), 'whole');
});

// Python's urllib ends every connection, and so does an Envoy that drains. How much of an answer is still in Envoy when the shard has sent it all depends on the kernel's
// buffers, so several sizes are read.
test.serial('a client that pauses for two seconds at a time gets the end of an answer that ends its connection', async (t) => {
  const { url } = await system.local();
  const token = await system.token('vision/trainer');
  const read = async (mebibytes: number): Promise<void> => {
    const path = `/objects/vision/transfer/slow-${mebibytes}`;
    const length = mebibytes * 2 ** 20;
    t.is((await system.call({ as: 'vision/trainer', method: 'PUT', path, body: Buffer.alloc(length, 'x') })).status, 201);
    const headers = { authorization: `Bearer ${token}`, connection: 'close' };
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request(url, { path, agent: false, headers }, resolve).on('error', reject).end();
    });
    let received = 0;
    let sincePause = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      received += chunk.length;
      sincePause += chunk.length;
      if (sincePause < 2 ** 20) continue;
      sincePause = 0;
      await delay(pauseMs);
    }
    t.is(received, length);
  };
  await Promise.all([5, 5.5, 6, 6.5, 7].map(read));
});
