/** Faults of the origin, of the disk and of the shard, and writes that come during a fill. */
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { FileWriter } from '../../../services/cache/disk/file-writer.ts';
import { type Files, systemFiles } from '../../../services/cache/disk/files.ts';
import { startOrigin, startScripted } from '../../origin/support/origin.ts';
import { callerHeaders } from '../../support/caller.ts';
import { type Answer, call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { HostileFiles } from '../support/hostile-files.ts';
import { startCacheProcess } from '../support/process.ts';
import { metric, startTestShard, temporaryDirectory } from '../support/shard.ts';
import { fillHeaders, serve, startScript, startThrough } from './support/through.ts';

const MiB = 1024 * 1024;

function codeOf({ body }: Answer): string {
  return (JSON.parse(body.toString()) as { code: string }).code;
}

/** An origin whose bodies stop after their first MiB until `end`. */
function pausing(body: Buffer) {
  const open: ServerResponse[] = [];
  return {
    open,
    respond: (request: IncomingMessage, response: ServerResponse) => {
      if (request.method === 'HEAD') return serve(response, request, body);
      response.writeHead(200, { 'content-length': body.length });
      response.write(body.subarray(0, MiB));
      open.push(response);
    },
    end: () => open[0]?.end(body.subarray(MiB)),
  };
}

test.serial('a miss of the origin is 404 and remembered, and no-cache asks again', async (t) => {
  const through = await startThrough(t, (_request, response) => response.writeHead(404).end());
  const startedMs = performance.now();
  for (const method of ['GET', 'HEAD', 'GET']) t.is((await through.get('a', { method })).status, 404);
  t.is(codeOf(await through.get('a')), 'origin-miss');
  // A miss is remembered for 5 s.
  t.true(through.requests.length <= 1 + (performance.now() - startedMs) / 5_000);
  const asked = through.requests.length;
  t.is((await through.get('a', { headers: { 'cache-control': 'no-cache' } })).status, 404);
  t.is(through.requests.length, asked + 1);
});

test.serial('each fault of the origin has its problem, and nothing is stored', async (t) => {
  const through = await startThrough(t, ({ url }, response) => {
    const status = Number(url?.slice(1));
    if (status === 302) response.writeHead(302, { location: 'http://169.254.169.254/' }).end();
    else response.writeHead(status).end('<html>');
  });
  for (const [status, code] of [
    [401, 'origin-refused'],
    [403, 'origin-refused'],
    [500, 'origin-failed'],
    [503, 'origin-failed'],
    [302, 'origin-failed'],
  ] as const) {
    const got = await through.get(String(status));
    t.deepEqual([got.status, codeOf(got), got.headers['retry-after'] === undefined], [502, code, false]);
    t.is((await through.stored(String(status))).status, 404);
    t.is((await through.get(String(status), { method: 'HEAD' })).status, 502);
  }
  const path = await through.get('a%2Fb');
  t.deepEqual([path.status, codeOf(path)], [400, 'bad-key']);
});

test.serial('without a length the object is complete before the first byte, up to 64 MiB', async (t) => {
  const through = await startThrough(t, ({ url }, response) => {
    if (url === '/small') return void response.write('hello ', () => response.end('world'));
    const send = (left: number): unknown => (left === 0 ? response.end() : response.write(Buffer.alloc(MiB), () => send(left - 1)));
    send(65);
  });
  const small = await through.get('small');
  t.deepEqual([small.status, small.body.toString(), small.headers['content-length']], [200, 'hello world', '11']);
  await waitFor('the object', async () => (await through.stored('small')).status === 200);
  const part = await through.get('small', { headers: { range: 'bytes=6-', 'cache-control': 'no-cache' } });
  t.deepEqual([part.status, part.body.toString()], [206, 'world']);
  const large = await through.get('large');
  t.deepEqual([large.status, codeOf(large)], [502, 'origin-no-length']);
  await waitFor('no room in use', async () => (await metric(through.shard, 'kura_cache_reserved_bytes')) === 0);
});

test.serial('an object above maxObjectBytes of its origin is refused, announced or not, and nothing is stored', async (t) => {
  const { host } = await startScripted(t, ({ url }, response) => {
    if (url === '/announced') return response.writeHead(200, { 'content-length': MiB + 1 }).end(Buffer.alloc(MiB + 1));
    response.write(Buffer.alloc(MiB), () => response.end(Buffer.alloc(MiB)));
  });
  const entry = `{ name: web, prefix: web/, http: { url: "http://${host}/" }, allowedHosts: ["127.0.0.1"], maxObjectBytes: 1Mi }`;
  const { url } = await startOrigin(t, `  - ${entry}\n`);
  const shard = await startTestShard(t, { environment: { KURA_CACHE_ORIGIN_URL: url } });
  for (const name of ['announced', 'grows']) {
    const path = `/through/web/${name}`;
    const response = await call(shard.url, { path, headers: fillHeaders() });
    t.deepEqual([response.status, codeOf(response), response.headers['retry-after']], [502, 'origin-too-large', undefined], name);
    t.is((await call(shard.url, { path: `/objects/web/${name}`, headers: { ...callerHeaders() } })).status, 404);
  }
  for (const isPrefetch of [false, true]) {
    const headers = { ...callerHeaders({ fill: { origin: 'web', isPrefetch } }) };
    const head = await call(shard.url, { method: 'HEAD', path: '/through/web/announced', headers });
    t.deepEqual([head.status, head.headers['retry-after'], head.headers['x-kura-problem']], [502, undefined, 'origin-too-large']);
  }
  await waitFor('no room in use', async () => (await metric(shard, 'kura_cache_reserved_bytes')) === 0);
  t.is(await metric(shard, 'kura_cache_fills_total', 'result="too-large"'), 3);
});

test.serial('an origin that lies about the length stores nothing', async (t) => {
  const through = await startThrough(t, ({ url }, response) => {
    response.writeHead(200, { 'content-length': 100_000, connection: 'close' });
    response.write(Buffer.alloc(url === '/short' ? 99_999 : 100_001), () => response.destroy());
  });
  const short = await through.get('short');
  t.deepEqual([short.status, codeOf(short)], [502, 'origin-failed']);
  t.is((await through.stored('short')).status, 404);
  const long = await through.get('long');
  t.true(long.status === 502 || long.body.length === 100_000);
});

test.serial('a PUT during a fill wins, and the readers of the fill get their object', async (t) => {
  const body = randomBytes(3 * MiB);
  const origin = pausing(body);
  const through = await startThrough(t, origin.respond);
  const reading = through.get('a');
  await waitFor('the fill', () => origin.open.length === 1);
  const put = await call(through.shard.url, {
    method: 'PUT',
    path: `/through/${through.prefix}a`,
    body: 'newer',
    headers: { 'content-length': 5, ...callerHeaders() },
  });
  t.is(put.status, 201);
  origin.end();
  t.true((await reading).body.equals(body));
  await waitFor('the end', async () => (await metric(through.shard, 'kura_cache_fills_total', 'result="not-kept"')) === 1);
  t.is((await through.stored('a')).body.toString(), 'newer');
  await waitFor('no temporary file', async () => (await readdir(`${through.shard.directory}/temporary`)).length === 0);
  t.is(await metric(through.shard, 'kura_cache_reserved_bytes'), 0);
});

test.serial('after a DELETE during a fill, the object is not stored', async (t) => {
  const body = randomBytes(3 * MiB);
  const origin = pausing(body);
  const through = await startThrough(t, origin.respond);
  const reading = through.get('a');
  await waitFor('the fill', () => origin.open.length === 1);
  const removed = await call(through.shard.url, { method: 'DELETE', path: `/objects/${through.prefix}a`, headers: { ...callerHeaders() } });
  t.is(removed.status, 404);
  origin.end();
  t.true((await reading).body.equals(body));
  await waitFor('the end', async () => (await metric(through.shard, 'kura_cache_fills_total', 'result="not-kept"')) === 1);
  t.is((await through.stored('a')).status, 404);
});

test.serial('a DELETE while a fill replaces the object removes both', async (t) => {
  const hostile = new HostileFiles();
  const body = randomBytes(MiB);
  const through = await startThrough(t, (request, response) => serve(response, request, body), { files: hostile.files });
  await through.get('a');
  await waitFor('the object', async () => (await through.stored('a')).status === 200);
  hostile.hangs.add('rename');
  await through.get('a', { headers: { 'cache-control': 'no-cache' } });
  await waitFor('the rename hangs', () => hostile.waiting === 1);
  const removing = call(through.shard.url, { method: 'DELETE', path: `/objects/${through.prefix}a`, headers: { ...callerHeaders() } });
  await waitFor('the old object has gone', async () => (await through.stored('a')).status === 404);
  hostile.heal();
  t.is((await removing).status, 204);
  t.is((await through.stored('a')).status, 404);
});

test.serial('a caller with terms for another origin does not join a fill', async (t) => {
  const body = randomBytes(3 * MiB);
  const origin = pausing(body);
  const through = await startThrough(t, origin.respond);
  const reading = through.get('a');
  await waitFor('the fill', () => origin.open.length === 1);
  const other = await through.get('a', { headers: { ...callerHeaders({ fill: 'nfs' }) } });
  t.deepEqual([other.status, codeOf(other)], [503, 'fill-busy']);
  const plain = await call(through.shard.url, { path: `/through/${through.prefix}a`, headers: { ...callerHeaders() } });
  t.deepEqual([plain.status, codeOf(plain)], [404, 'miss']);
  origin.end();
  await reading;
});

test.serial('beyond the bounds a miss is 503 with Retry-After, and demand has room beside prefetch', async (t) => {
  const body = randomBytes(2 * MiB);
  const origin = pausing(body);
  const environment = { KURA_CACHE_FILLS: '4', KURA_CACHE_FILL_NAMESPACE_PERCENT: '50', KURA_CACHE_FILL_PREFETCH_PERCENT: '50' };
  const through = await startThrough(t, origin.respond, { environment });
  const prefetch = { ...callerHeaders({ fill: { origin: 'web', isPrefetch: true } }) };
  const reading: Promise<unknown>[] = [through.get('job', { method: 'HEAD', headers: prefetch }), through.get('a')];
  await waitFor('two fills', () => origin.open.length === 2);
  const busy = await through.get('b');
  t.deepEqual([busy.status, codeOf(busy), busy.headers['retry-after']], [503, 'fill-busy', '1']);
  t.is((await through.get('b', { method: 'HEAD' })).status, 503);
  const speech = callerHeaders({ namespace: 'speech', fill: 'web' });
  reading.push(through.get('c', { headers: { ...speech } }));
  await waitFor('a fill of another namespace', () => origin.open.length === 3);
  t.is(await metric(through.shard, 'kura_cache_fills_in_flight'), 3);
  t.is(await metric(through.shard, 'kura_cache_fills_rejected_total'), 2);
  for (const response of origin.open) response.end(body.subarray(MiB));
  await Promise.all(reading);
  await waitFor('no fill', async () => (await metric(through.shard, 'kura_cache_fills_in_flight')) === 0);
  t.is((await through.get('b', { method: 'HEAD' })).status, 200);
});

test.serial('while the disk fails or is full, each client gets the object from the origin', async (t) => {
  const body = randomBytes(2 * MiB);
  const hostile = new HostileFiles();
  const through = await startThrough(t, (request, response) => serve(response, request, body), { files: hostile.files });
  for (const [fault, code] of [
    ['write', 'EIO'],
    ['rename', 'EIO'],
    ['open', 'EMFILE'],
    ['write', 'ENOSPC'],
  ] as const) {
    hostile.fails.set(fault, code);
    const name = `${fault}-${code}`;
    const got = await through.get(name);
    t.deepEqual([got.status, got.body.equals(body)], [200, true], name);
    // The rename fails after the readers have begun.
    if (fault !== 'rename') t.is(got.headers['x-kura-stored'], 'no');
    await waitFor('the end of the fill', async () => (await metric(through.shard, 'kura_cache_fills_in_flight')) === 0);
    hostile.heal();
    t.is((await through.stored(name)).status, 404);
    await waitFor('no room in use', async () => (await metric(through.shard, 'kura_cache_reserved_bytes')) === 0);
  }
  t.deepEqual(await readdir(`${through.shard.directory}/temporary`), []);
});

test.serial('while the disk hangs, a client gets 502 within its budget', async (t) => {
  const body = randomBytes(2 * MiB);
  const hostile = new HostileFiles();
  const budget = { firstByteMs: 60_000, commitMs: 60_000, readMs: 60_000, writeMs: 60_000, fillMs: 500 };
  const through = await startThrough(t, (request, response) => serve(response, request, body), { files: hostile.files, budget });
  hostile.hangs.add('write');
  const got = await through.get('a');
  t.deepEqual([got.status, codeOf(got)], [502, 'origin-failed']);
  hostile.heal();
  await waitFor('the object', async () => (await through.stored('a')).body.equals(body));
});

for (const call of ['open', 'write', 'rename'] as const)
  test.serial(`a fill does not wait for a disk that hangs in ${call}, and nothing is left when the call ends`, async (t) => {
    const body = randomBytes(2 * MiB);
    const hostile = new HostileFiles();
    const budget = { firstByteMs: 60_000, commitMs: 60_000, readMs: 60_000, writeMs: 300, fillMs: 60_000 };
    const through = await startThrough(t, (request, response) => serve(response, request, body), { files: hostile.files, budget });
    hostile.hangs.add(call);
    const got = await through.get('a');
    t.deepEqual([got.status, got.body.equals(body)], [200, true]);
    await waitFor('the end', async () => (await metric(through.shard, 'kura_cache_fills_total', 'result="alone"')) === 1);
    hostile.heal();
    await waitFor('no fill', async () => (await metric(through.shard, 'kura_cache_fills_in_flight')) === 0);
    await waitFor('no room in use', async () => (await metric(through.shard, 'kura_cache_reserved_bytes')) === 0);
    await waitFor('no object', async () => (await metric(through.shard, 'kura_cache_objects')) === 0);
    await waitFor('no temporary file', async () => (await readdir(`${through.shard.directory}/temporary`)).length === 0);
    t.is((await through.stored('a')).status, 404);
  });

for (const place of ['the thread pool', 'a thread'] as const) {
  const files = (t: ExecutionContext) => {
    const writer = place === 'a thread' ? new FileWriter({ onFail: (error) => t.fail(String(error)) }) : undefined;
    t.teardown(() => writer?.close());
    return new HostileFiles(writer);
  };

  test.serial(`a small object does not wait for a disk that hangs in ${place}, and is stored later`, async (t) => {
    const hostile = files(t);
    const body = randomBytes(100_000);
    const through = await startThrough(t, (request, response) => serve(response, request, body), { files: hostile.files });
    hostile.hangs.add('open');
    const got = await through.get('a');
    t.deepEqual([got.status, got.body.equals(body), got.headers['x-kura-stored']], [200, true, undefined]);
    await waitFor('the write hangs', () => hostile.waiting === 1);
    const joined = await through.get('a', { headers: { range: 'bytes=5-9' } });
    t.deepEqual([joined.status, joined.headers['x-kura-cache'], joined.body.equals(body.subarray(5, 10))], [206, 'wait', true]);
    t.is(await metric(through.shard, 'kura_cache_objects'), 0);
    hostile.heal();
    await waitFor('the object', async () => (await through.stored('a')).body.equals(body));
    t.is(through.requests.length, 1);
  });

  test.serial(`a disk fault in ${place} after the response of a small object breaks nothing, and the object is not stored`, async (t) => {
    const hostile = files(t);
    const body = randomBytes(100_000);
    const through = await startThrough(t, (request, response) => serve(response, request, body), { files: hostile.files });
    for (const [fault, code] of [
      ['open', 'EMFILE'],
      ['write', 'ENOSPC'],
      ['rename', 'EIO'],
    ] as const) {
      hostile.fails.set(fault, code);
      const got = await through.get(fault);
      t.deepEqual([got.status, got.body.equals(body)], [200, true], fault);
      await waitFor('the end of the fill', async () => (await metric(through.shard, 'kura_cache_fills_in_flight')) === 0);
      hostile.heal();
      t.is((await through.stored(fault)).status, 404);
      await waitFor('no room in use', async () => (await metric(through.shard, 'kura_cache_reserved_bytes')) === 0);
    }
    t.deepEqual(await readdir(`${through.shard.directory}/temporary`), []);
    await waitFor('no buffer in use', async () => (await metric(through.shard, 'kura_cache_buffer_bytes')) === 0);
  });

  test.serial(`a PUT and a DELETE win over a small object whose write hangs in ${place}`, async (t) => {
    const hostile = files(t);
    const body = randomBytes(100_000);
    const through = await startThrough(t, (request, response) => serve(response, request, body), { files: hostile.files });
    for (const method of ['PUT', 'DELETE'] as const) {
      hostile.hangs.add('rename');
      t.true((await through.get(method)).body.equals(body));
      await waitFor('the write hangs', () => hostile.waiting === 1);
      const headers = { ...callerHeaders(), ...(method === 'PUT' ? { 'content-length': 5 } : {}) };
      const written = call(through.shard.url, {
        method,
        path: `/objects/${through.prefix}${method}`,
        body: 'newer'.slice(0, method === 'PUT' ? 5 : 0),
        headers,
      });
      // The rename is in progress, so the write comes after it.
      hostile.heal();
      t.is((await written).status, method === 'PUT' ? 201 : 204);
      const { status, body: stored } = await through.stored(method);
      t.deepEqual([status, status === 200 && stored.toString()], method === 'PUT' ? [200, 'newer'] : [404, false]);
    }
  });
}

test.serial('a fill opens its file once, and a reader that comes late gets the blocks from it', async (t) => {
  const body = randomBytes(8 * MiB + 5);
  const opened: string[] = [];
  const files: Files = {
    ...systemFiles,
    open: async (path, flags, mode) => {
      if (path.includes('/temporary/')) opened.push(String(flags));
      return await systemFiles.open(path, flags, mode);
    },
  };
  const origin = pausing(body);
  const through = await startThrough(t, origin.respond, { files });
  const { hostname, port } = new URL(through.shard.url);
  const socket = connect(Number(port), hostname).pause();
  t.teardown(() => socket.destroy());
  const lines = Object.entries(fillHeaders()).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`GET /through/${through.prefix}a HTTP/1.1\r\nhost: kura\r\nconnection: close\r\n${lines.join('')}\r\n`);
  await waitFor('the fill', () => origin.open.length === 1);
  origin.end();
  await waitFor('the object', async () => (await through.stored('a')).body.equals(body));
  const removed = await call(through.shard.url, { method: 'DELETE', path: `/objects/${through.prefix}a`, headers: { ...callerHeaders() } });
  t.is(removed.status, 204);
  const bytes = await buffer(socket.resume());
  t.true(bytes.subarray(bytes.indexOf('\r\n\r\n') + 4).equals(body));
  t.deepEqual(opened, ['wx+']);
});

test.serial('a reader that joins during the rename of a small object gets it from memory', async (t) => {
  const hostile = new HostileFiles();
  t.teardown(() => hostile.heal());
  const body = randomBytes(100_000);
  const through = await startThrough(t, (request, response) => serve(response, request, body), { files: hostile.files });
  hostile.hangs.add('rename');
  t.true((await through.get('a')).body.equals(body));
  await waitFor('the rename hangs', () => hostile.waiting === 1);
  const joined = await through.get('a');
  t.deepEqual([joined.status, joined.headers['x-kura-cache']], [200, 'wait']);
  t.true(joined.body.equals(body));
  hostile.heal();
  await waitFor('the object', async () => (await through.stored('a')).status === 200);
});

test.serial('without a reachable origin service a miss is 502, and hits still work', async (t) => {
  const through = await startThrough(t, () => {}, { environment: { KURA_CACHE_ORIGIN_URL: 'http://127.0.0.1:9' } });
  const got = await through.get('a');
  t.deepEqual([got.status, codeOf(got)], [502, 'origin-failed']);
  const path = `/objects/${through.prefix}b`;
  await call(through.shard.url, { method: 'PUT', path, body: 'x', headers: { 'content-length': 1, ...callerHeaders() } });
  t.is((await through.get('b')).headers['x-kura-cache'], 'hit');
});

test.serial('a shard that is killed during a fill leaves no half file, and the next request fills', async (t) => {
  const body = randomBytes(4 * MiB);
  const origin = pausing(body);
  const script = await startScript((request, response) => {
    if (origin.open.length === 0) origin.respond(request, response);
    else serve(response, request, body);
  });
  const environment = { KURA_CACHE_DIRECTORY: await temporaryDirectory(t), KURA_CACHE_ORIGIN_URL: script.originUrl };
  const path = `/through/${script.prefix}a`;
  const first = await startCacheProcess(t, environment);
  const reading = call(`http://${first.listening.objects}`, { path, headers: fillHeaders() }).catch(() => undefined);
  const temporary = `${environment.KURA_CACHE_DIRECTORY}/temporary`;
  await waitFor('a half file', async () => (await readdir(temporary)).length === 1);
  first.child.kill('SIGKILL');
  await first.ended;
  t.not((await reading)?.complete, true);
  t.is((await readdir(temporary)).length, 1);
  const second = await startCacheProcess(t, environment);
  await waitFor('no half file', async () => (await readdir(temporary)).length === 0);
  const url = `http://${second.listening.objects}`;
  t.is((await call(url, { path: `/objects/${script.prefix}a`, headers: { ...callerHeaders() } })).status, 404);
  t.true((await call(url, { path, headers: fillHeaders() })).body.equals(body));
});

test.serial('a shard stops in the middle of a fill', async (t) => {
  const origin = pausing(randomBytes(4 * MiB));
  const through = await startThrough(t, origin.respond);
  const reading = through.get('a').catch(() => undefined);
  await waitFor('the fill', () => origin.open.length === 1);
  await through.shard.close();
  t.not((await reading)?.complete, true);
  t.deepEqual(await readdir(`${through.shard.directory}/temporary`), []);
});

test.serial('a client that gets no byte in time gets 502, and the fill continues', async (t) => {
  const open: ServerResponse[] = [];
  const budget = { firstByteMs: 60_000, commitMs: 60_000, readMs: 60_000, writeMs: 60_000, fillMs: 300 };
  const through = await startThrough(t, (_request, response) => open.push(response), { budget });
  for (const method of ['GET', 'HEAD']) t.is((await through.get('a', { method })).status, 502);
  t.is((await through.get('b', { method: 'HEAD' })).status, 502);
  t.deepEqual(
    through.requests.map(({ method, url }) => `${method} ${url}`),
    ['GET /a', 'HEAD /b'],
  );
  open[0]?.end('late');
  await waitFor('the object', async () => (await through.stored('a')).body.toString() === 'late');
});
