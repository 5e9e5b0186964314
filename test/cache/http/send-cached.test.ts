import { once } from 'node:events';
import { closeSync, openSync, readSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { openSendfile, type SendfileCalls } from '../../../services/cache/disk/sendfile-calls.ts';
import { createLogger } from '../../../services/shared/log.ts';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { startCacheProcess } from '../support/process.ts';
import { metric, startTestShard, type TestShard, temporaryDirectory } from '../support/shard.ts';

const KiB = 1024;
const MiB = 1024 ** 2;
const system = openSendfile(createLogger({ service: 'cache', level: 'silent' }));

interface WatchedShard extends TestShard {
  /** Bytes that sendfile took, and calls that took none. */
  readonly sent: { bytes: number; full: number };
  /** Stores an object, reads it once so that its blocks are checked, and returns the path with a ticket. */
  readonly place: (name: string, body: Buffer) => Promise<string>;
}

/** `change` replaces some of the real calls. */
async function startWatchedShard(
  t: ExecutionContext,
  {
    change = () => ({}),
    environment,
  }: { change?: (calls: SendfileCalls) => Partial<SendfileCalls>; environment?: Record<string, string> } = {},
): Promise<WatchedShard> {
  const sent = { bytes: 0, full: 0 };
  const calls = system as SendfileCalls;
  const watched: SendfileCalls = {
    ...calls,
    sendFile: (...options) => {
      const result = calls.sendFile(...options);
      if (result > 0) sent.bytes += result;
      else sent.full += 1;
      return result;
    },
  };
  const sendfile = { ...watched, ...change(watched) };
  const shard = await startTestShard(t, {
    environment: { KURA_CACHE_ADVERTISE: '127.0.0.1', KURA_CACHE_TICKET_LIFE: '60s', KURA_CACHE_DIRECT_MIN_BYTES: '0', ...environment },
    sendfile,
  });
  const place = async (name: string, body: Buffer): Promise<string> => {
    t.is((await call(shard.url, { method: 'PUT', path: `/objects/${name}`, body })).status, 201);
    t.true((await call(shard.url, { path: `/objects/${name}` })).body.equals(body));
    const { headers } = await call(shard.url, { path: `/direct/${name}` });
    return (headers.location as string).slice(shard.url.length);
  };
  return { ...shard, sent, place };
}

/** Each 4 bytes have the number of the object and their place, so that a foreign or a moved byte is seen. */
function marked(number: number, bytes: number): Buffer {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  for (let at = 0; at < words.length; at += 1) words[at] = ((number << 24) | at) >>> 0;
  return Buffer.from(words.buffer, 0, bytes);
}

/** Linux has cachestat(2) since 6.5. */
const linux = isSupported() ? test : test.skip;

linux('checked blocks of a direct transfer are sent by sendfile; small, unchecked and proxied bodies are not', async (t) => {
  const shard = await startWatchedShard(t);
  const body = marked(1, 3 * MiB + 5);
  t.is((await call(shard.url, { method: 'PUT', path: '/objects/large', body })).status, 201);
  const { headers } = await call(shard.url, { path: '/direct/large' });
  const target = (headers.location as string).slice(shard.url.length);
  t.true((await call(shard.url, { path: target })).body.equals(body));
  t.is(shard.sent.bytes, 0, 'the first read checks the blocks');
  const small = await shard.place('small', marked(2, 256 * KiB));
  t.true((await call(shard.url, { path: small })).body.equals(marked(2, 256 * KiB)));
  t.true((await call(shard.url, { path: '/objects/large' })).body.equals(body));
  t.is(shard.sent.bytes, 0);
  const direct = await call(shard.url, { path: target });
  t.deepEqual([direct.status, direct.headers['content-length'], direct.complete], [200, String(body.length), true]);
  t.true(direct.body.equals(body));
  t.true(shard.sent.bytes > MiB, `${shard.sent.bytes} bytes by sendfile`);
  for (const [from, to] of [
    [1, 2 * MiB],
    [256 * KiB - 1, 3 * MiB + 4],
    [4097, 1_000_001],
  ] as const) {
    const part = await call(shard.url, { path: target, headers: { range: `bytes=${from}-${to}` } });
    t.deepEqual([part.status, part.headers['content-range']], [206, `bytes ${from}-${to}/${body.length}`]);
    t.true(part.body.equals(body.subarray(from, to + 1)));
  }
  t.true((await metric(shard, 'kura_cache_sent_bytes_total', 'direct')) > 2 * body.length);
});

linux('a slow reader gets every byte, in pieces as the system takes them', async (t) => {
  const shard = await startWatchedShard(t);
  const body = marked(3, 24 * MiB);
  const target = await shard.place('slow', body);
  const client = await openClient(t, shard);
  client.pause();
  client.write(`GET ${target} HTTP/1.1\r\nhost: a\r\n\r\n`);
  await waitFor('the system takes no more bytes', () => Promise.resolve(shard.sent.full > 0));
  const got: Buffer[] = [];
  let bytes = 0;
  client.on('data', (chunk: Buffer) => {
    got.push(chunk);
    bytes += chunk.length;
  });
  client.resume();
  await waitFor('the body has arrived', () => Promise.resolve(bytes > body.length));
  const all = Buffer.concat(got);
  t.true(all.subarray(all.indexOf('\r\n\r\n') + 4).equals(body));
});

linux('a reader that stalls is cut off', async (t) => {
  const shard = await startWatchedShard(t, { environment: { KURA_CACHE_READER_TIMEOUT: '300ms' } });
  const target = await shard.place('stalled', marked(4, 24 * MiB));
  const client = await openClient(t, shard);
  client.pause();
  client.write(`GET ${target} HTTP/1.1\r\nhost: a\r\n\r\n`);
  await waitFor('the transfer has begun', () => Promise.resolve(shard.sent.full > 0));
  await waitFor('the shard has closed the connection', async () => (await metric(shard, 'kura_cache_connections')) === 0);
  t.is(await metric(shard, 'kura_cache_requests_total', 'result="failed"'), 1);
});

for (const [what, change] of [
  ['a page leaves the page cache during the transfer', (calls) => ({ isCached: failAfter(3, calls.isCached, false) })],
  ['no page is in the page cache', () => ({ isCached: () => false })],
  ['the system takes only a part of the head', (calls) => ({ sendHead: (socket, head) => calls.sendHead(socket, head.subarray(0, 10)) })],
  ['the system does not take the head', () => ({ sendHead: () => -1 })],
  ['the file system does not support sendfile', () => ({ sendFile: () => -1 })],
  ['sendfile fails during the transfer', (calls) => ({ sendFile: failAfter(2, calls.sendFile, -1) })],
  ['sendfile finds the end of the file too early', (calls) => ({ sendFile: failAfter(2, calls.sendFile, 0) })],
  [
    'the system takes few bytes at once',
    (calls) => ({ sendFile: (socket, file, from, bytes) => calls.sendFile(socket, file, from, Math.min(bytes, 70_001)) }),
  ],
] as const satisfies readonly (readonly [string, (calls: SendfileCalls) => Partial<SendfileCalls>])[]) {
  linux(`the body is complete when ${what}`, async (t) => {
    const shard = await startWatchedShard(t, { change });
    const body = marked(5, 5 * MiB + 1);
    const target = await shard.place('object', body);
    for (let round = 0; round < 3; round += 1) {
      const answer = await call(shard.url, { path: target });
      t.true(answer.status === 200 && answer.complete && answer.body.equals(body));
    }
  });
}

linux('no client gets a byte of another one while clients leave and come back under load', async (t) => {
  const shard = await startWatchedShard(t);
  const bodies = Array.from({ length: 6 }, (_, at) => marked(at + 10, 3 * MiB + at * 4));
  const targets: string[] = [];
  for (const [at, body] of bodies.entries()) targets.push(await shard.place(`load-${at}`, body));
  let [foreign, whole, left] = [0, 0, 0];
  const work = async (seed: number): Promise<void> => {
    for (let round = 0; round < 40; round += 1) {
      const number = (seed + round) % bodies.length;
      const body = bodies[number] as Buffer;
      // Most clients leave in the middle, some of them before the first byte.
      const leaveAt = round % 4 === 3 ? Number.POSITIVE_INFINITY : Math.floor((((seed * 7 + round * 13) % 29) / 29) * body.length);
      const result = await readSome(t, shard, { target: targets[number] as string, body, leaveAt });
      foreign += result.foreign;
      if (result.isWhole) whole += 1;
      else left += 1;
    }
  };
  await Promise.all(Array.from({ length: 16 }, (_, seed) => work(seed)));
  t.is(foreign, 0);
  t.deepEqual([whole, left], [160, 480]);
  t.true(shard.sent.bytes > 100 * MiB);
});

linux('a connection that gets the descriptor of a closed one gets no byte of its transfer', async (t) => {
  let turns = 0;
  const closed = Promise.withResolvers<Socket>();
  const change = (calls: SendfileCalls): Partial<SendfileCalls> => ({
    sendFile: (socket, file, from, bytes) => {
      turns += 1;
      if (turns > 2) return calls.sendFile(socket, file, from, bytes);
      // From the second turn on, the event loop looks for events before the next turn: the reset first, and then the new connection.
      if (turns === 2) {
        first.resetAndDestroy();
        closed.resolve(connect(Number(shard.address.split(':').at(-1)), '127.0.0.1'));
      }
      return bytes;
    },
  });
  const shard = await startWatchedShard(t, { change });
  const target = await shard.place('object', marked(6, 24 * MiB));
  const first = await openClient(t, shard);
  first.write(`GET ${target} HTTP/1.1\r\nhost: a\r\n\r\n`);
  const second = await closed.promise;
  t.teardown(() => second.destroy());
  let got = '';
  second.on('data', (bytes: Buffer) => {
    got += bytes.toString('latin1');
  });
  await waitFor('the transfer has failed', async () => (await metric(shard, 'kura_cache_requests_total', 'result="failed"')) === 1);
  t.is(got, '');
  second.write('GET /objects/none HTTP/1.1\r\nhost: a\r\n\r\n');
  await waitFor('the response has arrived', () => Promise.resolve(got.includes('\r\n\r\n')));
  t.true(got.startsWith('HTTP/1.1 404 '));
});

test('a Node without node:ffi, and a shard with the setting false, send direct transfers through buffers', async (t) => {
  const body = marked(7, 2 * MiB);
  for (const environment of [{ NODE_OPTIONS: '--no-experimental-ffi' }, { KURA_CACHE_SENDFILE: 'false' }, {}]) {
    const shard = await startCacheProcess(t, {
      KURA_CACHE_DIRECTORY: await temporaryDirectory(t),
      KURA_CACHE_ADVERTISE: '127.0.0.1',
      ...environment,
    });
    const url = `http://${shard.listening.objects}`;
    await call(url, { method: 'PUT', path: '/objects/a', body });
    const { location } = (await call(url, { path: '/direct/a' })).headers as { location: string };
    for (let round = 0; round < 2; round += 1) t.true((await call(url, { path: location.slice(url.length) })).body.equals(body));
    t.is(shard.output().includes('FFI'), Object.keys(environment).length === 0 && process.platform === 'linux');
    shard.child.kill('SIGTERM');
    t.is(await shard.ended, 0);
  }
});

function isSupported(): boolean {
  const file = openSync(import.meta.filename, 'r');
  try {
    readSync(file, Buffer.alloc(1));
    return system?.isCached(file, 0, 1) === true;
  } finally {
    closeSync(file);
  }
}

/** The first `calls` calls are real. */
function failAfter<A extends unknown[], R>(calls: number, real: (...given: A) => R, failed: R): (...given: A) => R {
  let left = calls;
  return (...given) => {
    left -= 1;
    return left < 0 ? failed : real(...given);
  };
}

async function openClient(t: ExecutionContext, { address }: TestShard): Promise<Socket> {
  const client = connect(Number(address.split(':').at(-1)), '127.0.0.1');
  client.on('error', () => {});
  t.teardown(() => client.destroy());
  await once(client, 'connect');
  return client;
}

/** Reads one body on a new connection and compares it while it arrives. Leaves with a reset after `leaveAt` bytes. */
async function readSome(
  t: ExecutionContext,
  shard: TestShard,
  { target, body, leaveAt }: { target: string; body: Buffer; leaveAt: number },
): Promise<{ foreign: number; isWhole: boolean }> {
  const client = await openClient(t, shard);
  let head = Buffer.alloc(0);
  let isBody = false;
  let at = 0;
  let foreign = 0;
  client.on('data', (chunk: Buffer) => {
    let bytes = chunk;
    if (!isBody) {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end === -1) return;
      if (!head.toString('latin1').startsWith('HTTP/1.1 200 ')) foreign += 1;
      isBody = true;
      bytes = head.subarray(end + 4);
    }
    if (!bytes.equals(body.subarray(at, at + bytes.length))) foreign += 1;
    at += bytes.length;
    if (at >= Math.min(leaveAt, body.length)) client.resetAndDestroy();
  });
  const closed = once(client, 'close');
  client.write(`GET ${target} HTTP/1.1\r\nhost: a\r\n\r\n`);
  if (leaveAt === 0) client.resetAndDestroy();
  await closed;
  return { foreign, isWhole: at === body.length };
}
