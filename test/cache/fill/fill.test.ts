/** Single flight, streaming from the growing file, and the object that stays. */
import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import test from 'ava';
import { decodeTrailer } from '../../../services/cache/disk/trailer.ts';
import { callerHeaders } from '../../support/caller.ts';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { fileOf } from '../support/disk.ts';
import { metric, startTestShard } from '../support/shard.ts';
import { fillHeaders, serve, startThrough } from './support/through.ts';

const MiB = 1024 * 1024;

test.serial('64 clients of one cold object cause one request at the origin, and each has its first byte before the end', async (t) => {
  const body = randomBytes(3 * MiB + 123);
  let open: ServerResponse | undefined;
  const through = await startThrough(t, (_request, response) => {
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, MiB));
    open = response;
  });
  const { hostname, port } = new URL(through.shard.url);
  const clients = Array.from({ length: 64 }, () => {
    const socket = connect(Number(port), hostname);
    t.teardown(() => socket.destroy());
    const lines = Object.entries(fillHeaders()).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`GET /through/${through.prefix}a HTTP/1.1\r\nhost: kura\r\nconnection: close\r\n${lines.join('')}\r\n`);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    const ended = new Promise((resolve) => socket.on('close', resolve));
    return { bytes: () => Buffer.concat(chunks), ended };
  });
  await waitFor('the first bytes at every client', () => clients.every((client) => client.bytes().length > MiB / 2));
  t.is(await metric(through.shard, 'kura_cache_fill_waiters'), 64);
  open?.end(body.subarray(MiB));
  const roles: string[] = [];
  for (const client of clients) {
    await client.ended;
    const bytes = client.bytes();
    const end = bytes.indexOf('\r\n\r\n') + 4;
    const head = bytes.toString('latin1', 0, end);
    roles.push(/x-kura-cache: (\w+)/.exec(head)?.[1] ?? '');
    t.regex(head, new RegExp(`content-length: ${body.length}\r\n`));
    t.notRegex(head, /etag/);
    t.true(bytes.subarray(end).equals(body));
  }
  t.deepEqual([roles.filter((role) => role === 'fill').length, roles.filter((role) => role === 'wait').length], [1, 63]);
  t.is(through.requests.length, 1);
  const hit = await waitFor('the object', async () => {
    const got = await through.stored('a');
    return got.status === 200 && got;
  });
  t.true(hit.body.equals(body));
  const later = await through.get('a');
  t.deepEqual([later.status, later.headers['x-kura-cache'], later.headers.etag === undefined], [200, 'hit', false]);
  t.is(through.requests.length, 1);
});

test.serial('small and empty objects are filled, on both parsers', async (t) => {
  const bodies: Record<string, Buffer> = { '/empty': Buffer.alloc(0), '/small': randomBytes(1000), '/block': randomBytes(256 * 1024) };
  const through = await startThrough(t, (request, response) => serve(response, request, bodies[request.url ?? ''] as Buffer));
  for (const name of ['empty', 'small', 'block']) {
    for (const te of [{}, { te: 'trailers' }]) {
      const got = await through.get(name, { headers: te });
      t.is(got.status, 200);
      t.true(got.body.equals(bodies[`/${name}`] as Buffer), name);
    }
  }
  t.is(through.requests.length, 3);
  t.is((await through.get('small')).headers['x-kura-cache'], 'hit');
  t.is((await through.get('small', { headers: { te: 'trailers' } })).headers['x-kura-cache'], 'hit');
});

test.serial('a fill continues after its readers have left, and the object stays', async (t) => {
  const body = randomBytes(4 * MiB);
  let open: ServerResponse | undefined;
  const through = await startThrough(t, (_request, response) => {
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, MiB));
    open = response;
  });
  const left = new AbortController();
  const gone = through.get('a', { signal: left.signal }).catch(() => 'gone');
  await waitFor('the fill', async () => (await metric(through.shard, 'kura_cache_fills_in_flight')) === 1 && open !== undefined);
  left.abort();
  await gone;
  await waitFor('no reader', async () => (await metric(through.shard, 'kura_cache_fill_waiters')) <= 1);
  open?.end(body.subarray(MiB));
  const got = await waitFor('the object', async () => {
    const answer = await through.stored('a');
    return answer.status === 200 && answer;
  });
  t.true(got.body.equals(body));
  t.is(through.requests.length, 1);
});

test.serial('without fill terms, or without an origin service, a miss under /through/ is 404', async (t) => {
  const through = await startThrough(t, (request, response) => serve(response, request, Buffer.from('x')));
  const plain = await call(through.shard.url, { path: `/through/${through.prefix}a`, headers: { ...callerHeaders() } });
  t.deepEqual([plain.status, JSON.parse(plain.body.toString()).code], [404, 'miss']);
  t.is(through.requests.length, 0);
  const shard = await startTestShard(t);
  t.is((await call(shard.url, { path: `/through/${through.prefix}a`, headers: fillHeaders() })).status, 404);
});

test.serial('a body that breaks is fetched once more, and then it is 502 and nothing is stored', async (t) => {
  const body = randomBytes(100_000);
  let broken = 1;
  const through = await startThrough(t, (_request, response) => {
    response.writeHead(200, { 'content-length': body.length });
    if (broken === 0) return void response.end(body);
    broken -= 1;
    response.write(body.subarray(0, 50_000), () => response.destroy());
  });
  t.true((await through.get('once')).body.equals(body));
  t.is(through.requests.length, 2);
  broken = 2;
  const got = await through.get('twice');
  t.deepEqual([got.status, JSON.parse(got.body.toString()).code, got.headers['retry-after']], [502, 'origin-failed', '1']);
  t.is((await through.stored('twice')).status, 404);
  await waitFor('no temporary file', async () => (await readdir(`${through.shard.directory}/temporary`)).length === 0);
  await waitFor('no room in use', async () => (await metric(through.shard, 'kura_cache_reserved_bytes')) === 0);
});

test.serial('a request that waits for a body without a length gets it from the second fetch at once', async (t) => {
  let isBroken = true;
  const respond = (_request: IncomingMessage, response: ServerResponse) => {
    if (!isBroken) return void response.end('whole');
    isBroken = false;
    response.write('half', () => response.destroy());
  };
  // It is longer than the test.
  const budget = { firstByteMs: 60_000, commitMs: 60_000, readMs: 60_000, writeMs: 60_000, fillMs: 600_000 };
  const through = await startThrough(t, respond, { budget });
  let body: string | undefined;
  const reading = through.get('a').then((got) => {
    body = got.body.toString();
  });
  await waitFor('the response', () => body !== undefined);
  await reading;
  t.is(body, 'whole');
  t.is(through.requests.length, 2);
});

test.serial('a fill that fails after the first byte breaks the connections of its readers', async (t) => {
  const body = randomBytes(4 * MiB);
  let open: ServerResponse | undefined;
  const through = await startThrough(t, (_request, response) => {
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, 2 * MiB));
    open = response;
  });
  const reading = Promise.all([through.get('a'), through.get('a', { headers: { te: 'trailers' } })]);
  await waitFor('two readers', async () => (await metric(through.shard, 'kura_cache_fill_waiters')) === 2);
  await waitFor('bytes', async () => (await metric(through.shard, 'kura_cache_filled_bytes_total')) >= 2 * MiB);
  open?.destroy();
  for (const got of await reading) t.true(!got.complete || got.status === 502);
  t.is((await through.stored('a')).status, 404);
  await waitFor('no room in use', async () => (await metric(through.shard, 'kura_cache_reserved_bytes')) === 0);
});

test.serial(
  'a filled object counts in the share of its origin, and its trailer has the caller and the version of the origin',
  async (t) => {
    const through = await startThrough(t, (request, response) => serve(response, request, Buffer.from('hello'), { etag: '"v1"' }));
    const caller = callerHeaders({ pod: 'trainer-0', fill: { origin: 'web', share: 0.25 } });
    await through.get('a', { headers: { ...caller } });
    await waitFor('the object', async () => (await through.stored('a')).status === 200);
    const bytes = await readFile(await fileOf(through.shard.directory, `${through.prefix}a`));
    const { namespace, serviceAccount, pod, origin, originVersion } = decodeTrailer(bytes.subarray(5 + 4), bytes.length) ?? {};
    t.deepEqual([namespace, serviceAccount, pod, origin, originVersion], ['vision', 'trainer', 'trainer-0', 'web', '"v1"']);
    t.is(await metric(through.shard, 'kura_cache_namespace_objects', 'namespace="origin:web"'), 1);
    t.is(await metric(through.shard, 'kura_cache_namespace_share_ratio', 'namespace="origin:web"'), 0.25);
    await through.shard.close();
    const later = await startTestShard(t, { directory: through.shard.directory });
    // An object without a row has no owner yet.
    await waitFor('all files are counted', async () => (await metric(later, 'kura_cache_recovered_ratio')) === 1);
    t.is((await call(later.url, { path: `/objects/${through.prefix}a`, headers: { ...callerHeaders() } })).body.toString(), 'hello');
    t.is(await metric(later, 'kura_cache_namespace_objects', 'namespace="origin:web"'), 1);
  },
);

test.serial('readers that do not read hold no more than the memory for bodies, and the fill ends without them', async (t) => {
  const body = randomBytes(24 * MiB);
  const environment = { KURA_CACHE_BUFFER_BYTES: '32Mi' };
  const through = await startThrough(t, (request, response) => serve(response, request, body), { environment });
  const { hostname, port } = new URL(through.shard.url);
  for (let reader = 0; reader < 32; reader += 1) {
    const socket = connect(Number(port), hostname).pause();
    t.teardown(() => socket.destroy());
    const lines = Object.entries(fillHeaders()).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`GET /through/${through.prefix}a HTTP/1.1\r\nhost: kura\r\n${lines.join('')}\r\n`);
  }
  await waitFor('the end of the fill', async () => (await metric(through.shard, 'kura_cache_fills_total', 'result="stored"')) === 1);
  await waitFor('the slot is free', async () => (await metric(through.shard, 'kura_cache_fills_in_flight')) === 0);
  t.is(await metric(through.shard, 'kura_cache_fill_bytes_in_flight'), 0);
  t.true((await metric(through.shard, 'kura_cache_buffer_bytes')) <= 24 * MiB);
  t.true((await through.stored('a')).body.equals(body));
  t.is(through.requests.length, 1);
});
