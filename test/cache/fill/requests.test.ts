/** Ranges, conditions, HEAD, prefetch, and objects that are fetched again. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, type IncomingMessage, type OutgoingHttpHeaders, request, type ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import test from 'ava';
import { callerHeaders } from '../../support/caller.ts';
import { type Answer, call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { metric } from '../support/shard.ts';
import { fillHeaders, serve, startThrough } from './support/through.ts';

const MiB = 1024 * 1024;

function codeOf({ body }: Answer): string {
  return (JSON.parse(body.toString()) as { code: string }).code;
}

test.serial('a ranged miss starts the fill and gets its range, and If-Range gets the whole object', async (t) => {
  const body = randomBytes(3 * MiB);
  const through = await startThrough(t, (request, response) => serve(response, request, body));
  const part = await through.get('a', { headers: { range: 'bytes=1000000-1999999' } });
  t.deepEqual([part.status, part.headers['content-range'], part.headers.etag], [206, `bytes 1000000-1999999/${body.length}`, undefined]);
  t.true(part.body.equals(body.subarray(1_000_000, 2_000_000)));
  const suffix = await through.get('b', { headers: { range: 'bytes=-5', te: 'trailers' } });
  t.deepEqual([suffix.status, suffix.body.equals(body.subarray(-5))], [206, true]);
  const whole = await through.get('c', { headers: { range: 'bytes=0-4', 'if-range': '"1-2-3"' } });
  t.deepEqual([whole.status, whole.body.length, whole.headers['x-kura-cache']], [200, body.length, 'fill']);
  const beyond = await through.get('d', { headers: { range: 'bytes=9999999-' } });
  t.deepEqual([beyond.status, beyond.headers['content-range']], [416, `bytes */${body.length}`]);
  t.is((await through.get('e', { headers: { 'if-match': '"1-2-3"' } })).status, 412);
  t.is(through.requests.length, 5);
  t.true(through.requests.every(({ headers }) => headers.range === undefined));
});

test.serial('a range that begins more than 16 MiB ahead of the fill is fetched alone', async (t) => {
  const body = randomBytes(20 * MiB);
  let open: ServerResponse | undefined;
  const through = await startThrough(t, (request, response) => {
    if (request.headers.range !== undefined) return serve(response, request, body, { etag: '"v"' });
    response.writeHead(200, { 'content-length': body.length, etag: '"v"' });
    response.write(body.subarray(0, MiB));
    open = response;
  });
  const whole = through.get('a');
  await waitFor('the fill', () => open !== undefined);
  const range = `bytes=${18 * MiB}-${18 * MiB + 999}`;
  const ahead = await through.get('a', { headers: { range } });
  t.deepEqual(
    [ahead.status, ahead.headers['x-kura-cache'], ahead.body.equals(body.subarray(18 * MiB, 18 * MiB + 1000))],
    [206, 'wait', true],
  );
  t.is(through.requests[1]?.headers.range, range);
  open?.end(body.subarray(MiB));
  t.true((await whole).body.equals(body));
  t.is(through.requests.length, 2);
});

test.serial('HEAD asks the origin by HEAD and starts no fill', async (t) => {
  const through = await startThrough(t, (request, response) => serve(response, request, Buffer.from('hello')));
  const head = await through.get('a', { method: 'HEAD' });
  t.deepEqual([head.status, head.headers['content-length'], head.headers.etag], [200, '5', undefined]);
  t.deepEqual(
    through.requests.map(({ method }) => method),
    ['HEAD'],
  );
  t.is((await through.stored('a')).status, 404);
  await through.get('a');
  await waitFor('the object', async () => (await through.stored('a')).status === 200);
  const hit = await through.get('a', { method: 'HEAD' });
  t.deepEqual([hit.status, hit.headers['x-kura-cache'], hit.headers['content-length']], [200, 'hit', '5']);
});

test.serial('HEAD of a prefetch job starts the fill and responds when the object is stored', async (t) => {
  const body = randomBytes(2 * MiB);
  let open: ServerResponse | undefined;
  const through = await startThrough(t, (request, response) => {
    if (request.url === '/none') return void response.writeHead(404).end();
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, MiB));
    open = response;
  });
  const headers = callerHeaders({ fill: { origin: 'web', isPrefetch: true } });
  const job = through.get('a', { method: 'HEAD', headers: { ...headers } });
  const reader = through.get('a');
  await waitFor('the fill', () => open !== undefined);
  await waitFor('both', async () => (await metric(through.shard, 'kura_cache_fill_waiters')) === 2);
  open?.end(body.subarray(MiB));
  const done = await job;
  t.deepEqual([done.status, done.headers['content-length']], [200, String(body.length)]);
  t.is(done.headers['x-kura-stored'], undefined);
  t.true((await through.stored('a')).body.equals(body));
  t.true((await reader).body.equals(body));
  t.is(through.requests.length, 1);
  const again = await through.get('a', { method: 'HEAD', headers: { ...headers } });
  t.is(again.headers['x-kura-cache'], 'hit');
  t.is((await through.get('none', { method: 'HEAD', headers: { ...headers } })).status, 404);
});

test.serial('no-cache fetches the object again, only for a caller that may fill', async (t) => {
  let version = 0;
  const through = await startThrough(t, (request, response) => {
    version += 1;
    serve(response, request, Buffer.from(`version ${version}`));
  });
  await through.get('a');
  await waitFor('the object', async () => (await through.stored('a')).status === 200);
  const plain = { headers: { 'cache-control': 'no-cache', ...callerHeaders() } };
  t.is((await call(through.shard.url, { path: `/through/${through.prefix}a`, ...plain })).body.toString(), 'version 1');
  const again = await through.get('a', { headers: { 'cache-control': 'no-cache' } });
  t.deepEqual([again.body.toString(), again.headers['x-kura-cache']], ['version 2', 'fill']);
  await waitFor('the new version', async () => (await through.stored('a')).body.toString() === 'version 2');
  t.is((await through.get('a', { headers: { 'cache-control': 'max-age=0' } })).headers['x-kura-cache'], 'hit');
});

test.serial('no-cache does not replace the object of a client', async (t) => {
  const through = await startThrough(t, (request, response) => serve(response, request, Buffer.from('of the origin')));
  const path = `/objects/${through.prefix}a`;
  await call(through.shard.url, { method: 'PUT', path, body: 'own', headers: { 'content-length': 3, ...callerHeaders() } });
  for (const method of ['GET', 'HEAD']) {
    const got = await through.get('a', { method, headers: { 'cache-control': 'no-cache' } });
    t.deepEqual([got.status, got.headers['content-length'], got.headers['x-kura-cache']], [200, '3', 'hit']);
  }
  t.is(through.requests.length, 0);
});

test.serial('an object that is older than `revalidate` is compared with the origin by HEAD', async (t) => {
  let [tag, isDown] = ['"v1"', false];
  const respond = (request: IncomingMessage, response: ServerResponse) => {
    if (isDown) response.writeHead(500).end();
    else if (tag === '') response.writeHead(404).end();
    else serve(response, request, Buffer.from(tag), { etag: tag });
  };
  const through = await startThrough(t, respond);
  const headers = { ...callerHeaders({ fill: { origin: 'web', revalidateSeconds: 0 } }) };
  t.is((await through.get('a', { headers })).body.toString(), '"v1"');
  await waitFor('the object', async () => (await through.stored('a')).status === 200);
  t.is((await through.get('a', { headers })).headers['x-kura-cache'], 'hit');
  t.deepEqual(
    through.requests.map(({ method }) => method),
    ['GET', 'HEAD'],
  );
  // Without the term nothing is compared.
  await through.get('a');
  t.is(through.requests.length, 2);
  tag = '"v2"';
  const changed = await through.get('a', { headers });
  t.deepEqual([changed.body.toString(), changed.headers['x-kura-cache']], ['"v2"', 'fill']);
  await waitFor('the new version', async () => (await through.stored('a')).body.toString() === '"v2"');
  isDown = true;
  const [startedMs, before] = [performance.now(), through.requests.length];
  for (let read = 0; read < 5; read += 1) t.is((await through.get('a', { headers })).body.toString(), '"v2"');
  // A failed origin is not asked again for 5 s.
  t.true(through.requests.length - before <= 1 + (performance.now() - startedMs) / 5_000);
});

test.serial('an object that the origin has no more is removed by the comparison', async (t) => {
  let isThere = true;
  const through = await startThrough(t, (request, response) => {
    if (isThere) serve(response, request, Buffer.from('hello'), { etag: '"v1"' });
    else response.writeHead(404).end();
  });
  const headers = { ...callerHeaders({ fill: { origin: 'web', revalidateSeconds: 0 } }) };
  await through.get('a', { headers });
  await waitFor('the object', async () => (await through.stored('a')).status === 200);
  isThere = false;
  const gone = await through.get('a', { headers });
  t.deepEqual([gone.status, codeOf(gone)], [404, 'origin-miss']);
  t.is((await through.stored('a')).status, 404);
});

test.serial('an object that the shard cannot store is fetched for each client', async (t) => {
  const body = randomBytes(2 * MiB);
  const through = await startThrough(t, (request, response) => serve(response, request, body, { etag: '"v"' }), {
    environment: { KURA_CACHE_MAX_BYTES: '64Mi', KURA_CACHE_MAX_OBJECT_PERCENT: '1' },
  });
  for (const headers of [{}, { te: 'trailers' }, { range: 'bytes=1000-1999' }]) {
    const got = await through.get('a', { headers });
    const expected = 'range' in headers ? body.subarray(1000, 2000) : body;
    t.deepEqual([got.headers['x-kura-stored'], got.headers['x-kura-cache'], got.body.equals(expected)], ['no', 'fill', true]);
  }
  // A range needs one request for the length and one for itself.
  t.is(through.requests.length, 4);
  const crowd = await Promise.all([through.get('a'), through.get('a'), through.get('a')]);
  t.true(crowd.every((got) => got.body.equals(body)));
  const small = await through.get('b', { headers: { ...callerHeaders({ fill: 'web', maxObjectBytes: 1000 }) } });
  t.deepEqual([small.headers['x-kura-stored'], small.body.equals(body)], ['no', true]);
  const job = callerHeaders({ fill: { origin: 'web', isPrefetch: true } });
  const head = await through.get('a', { method: 'HEAD', headers: { ...job } });
  t.deepEqual([head.status, head.headers['x-kura-stored'], head.headers['content-length']], [200, 'no', String(body.length)]);
  await waitFor('no slot in use', async () => (await metric(through.shard, 'kura_cache_fills_in_flight')) === 0);
  t.is(await metric(through.shard, 'kura_cache_fill_bytes_in_flight'), 0);
});

test.serial('a warm hit under /through/ has its role on the fast path too, and an old object is compared first', async (t) => {
  const through = await startThrough(t, (request, response) => serve(response, request, Buffer.from('hello'), { etag: '"v1"' }));
  await through.get('a');
  await waitFor('the object', async () => (await through.stored('a')).status === 200);
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  // Without `Connection: close`, the connection answers at once.
  const read = async (headers: OutgoingHttpHeaders) => {
    const outgoing = request(through.shard.url, { path: `/through/${through.prefix}a`, agent, headers: { ...headers } });
    outgoing.end();
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    return { role: response.headers['x-kura-cache'], body: (await buffer(response)).toString() };
  };
  const comparing = callerHeaders({ fill: { origin: 'web', revalidateSeconds: 0 } });
  for (const headers of [fillHeaders(), callerHeaders(), comparing, fillHeaders()])
    t.deepEqual(await read({ ...headers }), { role: 'hit', body: 'hello' });
  t.deepEqual(
    through.requests.map(({ method }) => method),
    ['GET', 'HEAD'],
  );
  t.is(await metric(through.shard, 'kura_cache_handed_over_total'), 0);
});
