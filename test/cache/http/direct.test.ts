import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { callerHeaders } from '../../support/caller.ts';
import { type Call, call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { startCacheProcess } from '../support/process.ts';
import { metric, startTestShard, type TestShard, temporaryDirectory } from '../support/shard.ts';

const credential = 'credential-of-envoy-0123456789';
const body = randomBytes(1_000_000);
/** Smaller than `body`, unlike the default. */
const minBytes = '256Ki';
/** Sends a request to Node's parser. */
const unusual = { te: 'trailers' };

interface DirectShard extends TestShard {
  /** Sends a request as Envoy does. */
  readonly ask: (request: Call) => ReturnType<typeof call>;
  /** Returns the path with the ticket from the redirect of a request under /direct/. */
  readonly ticket: (request: Call) => Promise<string>;
}

/** Tickets have the longest lifetime, because a test on a busy machine may take longer than the default of 10 s. */
async function startDirectShard(t: ExecutionContext, environment: Record<string, string> = {}): Promise<DirectShard> {
  const file = path.join(await temporaryDirectory(t), 'credential');
  await writeFile(file, credential);
  const shard = await startTestShard(t, {
    environment: {
      KURA_CACHE_ADVERTISE: '127.0.0.1',
      KURA_CACHE_CREDENTIAL_FILE: file,
      KURA_CACHE_TICKET_LIFE: '60s',
      KURA_CACHE_DIRECT_MIN_BYTES: minBytes,
      ...environment,
    },
  });
  const ask = ({ headers, ...request }: Call) =>
    call(shard.url, {
      ...request,
      headers: { ...callerHeaders({ credential, maxObjectBytes: 2_000_000 }), ...headers },
    });
  await ask({ method: 'PUT', path: '/objects/vision/a', body, headers: { 'content-type': 'image/jpeg' } });
  const ticket = async (request: Call): Promise<string> => {
    const { status, headers } = await ask(request);
    t.is(status, 307);
    t.true(headers.location?.startsWith(`${shard.url}/ticket/`));
    return (headers.location as string).slice(shard.url.length);
  };
  return { ...shard, ask, ticket };
}

const codeOf = (answer: { body: Buffer }): string => JSON.parse(answer.body.toString()).code;
const upload = (length = body.length): Call => ({
  method: 'PUT',
  path: '/direct/vision/up',
  body,
  expect: true,
  headers: { 'content-length': length },
});

test('a large object is a 307, and its ticket returns the object without a caller, on both parsers', async (t) => {
  const shard = await startDirectShard(t);
  for (const [asking, fetching] of [
    [{}, {}],
    [unusual, {}],
    [{}, unusual],
  ]) {
    const moved = await shard.ask({ path: '/direct/vision/a', headers: { ...asking } });
    t.deepEqual([moved.status, moved.headers['cache-control'], moved.headers['content-length']], [307, 'no-store', '0']);
    const target = moved.headers.location?.slice(shard.url.length) ?? '';
    for (const [headers, status, from, to] of [
      [{}, 200, 0, body.length],
      [{ range: 'bytes=10-19' }, 206, 10, 20],
      [{ range: 'bytes=-5' }, 206, body.length - 5, body.length],
      [{ range: 'bytes=0-1,3-4' }, 200, 0, body.length],
    ] as const) {
      const straight = await call(shard.url, { path: target, headers: { ...fetching, ...headers } });
      const proxied = await shard.ask({ path: '/objects/vision/a', headers: { ...fetching, ...headers } });
      t.is(straight.status, status);
      t.true(straight.complete && straight.body.equals(body.subarray(from, to)) && straight.body.equals(proxied.body));
      for (const field of ['etag', 'content-range', 'content-length', 'content-type', 'accept-ranges', 'x-kura-shard'])
        t.is(straight.headers[field], proxied.headers[field], field);
    }
    const { etag } = (await shard.ask({ method: 'HEAD', path: '/objects/vision/a' })).headers as { etag: string };
    for (const [headers, status] of [
      [{ 'if-none-match': etag }, 304],
      [{ 'if-none-match': '"other"' }, 200],
      [{ range: 'bytes=0-9', 'if-range': etag }, 206],
      [{ range: 'bytes=0-9', 'if-range': '"other"' }, 200],
      [{ range: 'bytes=5000000-' }, 416],
    ] as const) {
      t.is((await call(shard.url, { path: target, headers: { ...fetching, ...headers } })).status, status, JSON.stringify(headers));
      t.is((await shard.ask({ path: '/objects/vision/a', headers: { ...headers } })).status, status);
    }
  }
  t.is(await metric(shard, 'kura_cache_requests_total', 'result="redirected"'), 3);
  t.is(await metric(shard, 'kura_cache_tickets_total', 'used'), 3 * 9);
  t.true((await metric(shard, 'kura_cache_sent_bytes_total', 'direct')) > 9 * body.length);
});

test('a miss, an error, a HEAD, a 304 and a small object are not redirected', async (t) => {
  const shard = await startDirectShard(t, { KURA_CACHE_DIRECT_MIN_BYTES: '1000' });
  await shard.ask({ method: 'PUT', path: '/direct/vision/small', body: body.subarray(0, 999) });
  await shard.ask({ method: 'PUT', path: '/direct/vision/least', body: body.subarray(0, 1000) });
  const { etag } = (await shard.ask({ path: '/direct/vision/a', method: 'HEAD' })).headers as { etag: string };
  for (const headers of [{}, unusual]) {
    t.is((await shard.ask({ path: '/direct/vision/none', headers })).status, 404);
    t.is((await shard.ask({ path: '/direct/vision/../a', headers })).status, 400);
    t.is((await shard.ask({ path: '/direct/vision/a', headers: { ...headers, range: 'bytes=1000000-' } })).status, 416);
    t.is((await shard.ask({ path: '/direct/vision/a', headers: { ...headers, 'if-none-match': etag } })).status, 304);
    const head = await shard.ask({ path: '/direct/vision/a', method: 'HEAD', headers });
    t.deepEqual([head.status, head.headers['content-length']], [200, String(body.length)]);
    for (let again = 0; again < 2; again += 1)
      t.true((await shard.ask({ path: '/direct/vision/small', headers })).body.equals(body.subarray(0, 999)));
    await shard.ticket({ path: '/direct/vision/least', headers });
  }
  t.is((await shard.ask({ path: '/direct/vision/small', method: 'DELETE' })).status, 204);
  t.is((await shard.ask({ path: '/objects/vision/small' })).status, 404);
});

test('without an address for clients, over TLS, and without permission to redirect, /direct/ behaves as /objects/', async (t) => {
  const file = path.join(await temporaryDirectory(t), 'credential');
  await writeFile(file, credential);
  const off = await startTestShard(t, { environment: { KURA_CACHE_CREDENTIAL_FILE: file } });
  const on = await startDirectShard(t);
  for (const [url, more] of [
    [off.url, {}],
    [on.url, { 'x-forwarded-proto': 'https' }],
    [on.url, callerHeaders({ credential, mayRedirect: false })],
  ] as const) {
    for (const also of [{}, unusual]) {
      const headers = { ...callerHeaders({ credential }), ...more, ...also };
      t.is((await call(url, { ...upload(), headers: { ...headers, 'content-length': body.length } })).status, 201);
      t.true((await call(url, { path: '/direct/vision/up', headers })).body.equals(body));
    }
  }
  const gone = await call(off.url, { path: '/ticket/a.b/objects/vision/up' });
  t.deepEqual([gone.status, codeOf(gone)], [401, 'bad-caller']);
  const nowhere = await call(off.url, { path: '/ticket/a.b/objects/vision/up', headers: { ...callerHeaders({ credential }) } });
  t.deepEqual([nowhere.status, codeOf(nowhere)], [404, 'no-such-path']);
});

test('a shard that checks no signatures still rejects an invalid ticket', async (t) => {
  for (const environment of [{}, { KURA_CACHE_ADVERTISE: '127.0.0.1' }]) {
    const shard = await startTestShard(t, { environment });
    await call(shard.url, { method: 'PUT', path: '/objects/a', body });
    t.not((await call(shard.url, { path: '/ticket/a.b/objects/a' })).status, 200);
  }
});

test('a client that waits for 100 Continue gets the 307 before it sends a byte, and may use the ticket once, within its limits', async (t) => {
  const shard = await startDirectShard(t);
  const moved = await shard.ask(upload());
  t.deepEqual([moved.status, moved.bodySent], [307, false]);
  const chunked = await shard.ask({ method: 'PUT', path: '/direct/vision/up', body: Readable.from([body]), expect: true });
  t.deepEqual([chunked.status, chunked.bodySent], [307, false]);
  const first = await shard.ticket(upload());
  // The limit and the namespace in the headers of the client are ignored.
  const forged = callerHeaders({ credential, namespace: 'nlp', maxObjectBytes: 1 });
  for (const [headers, expect] of [
    [{ 'content-length': body.length }, false],
    [{ 'transfer-encoding': 'chunked' }, true],
  ] as const) {
    const put = { method: 'PUT', path: await shard.ticket(upload()), body, headers: { ...headers, ...forged }, expect };
    t.is((await call(shard.url, put)).status, 201);
    const again = await call(shard.url, put);
    t.deepEqual([again.status, codeOf(again), again.bodySent && expect], [403, 'bad-ticket', false]);
  }
  t.is((await shard.ask({ method: 'HEAD', path: '/objects/vision/up' })).headers['content-length'], String(body.length));
  const large = randomBytes(2_000_001);
  for (const headers of [{ 'content-length': large.length }, { 'transfer-encoding': 'chunked' }]) {
    const answer = await call(shard.url, { method: 'PUT', path: await shard.ticket(upload()), body: large, headers });
    t.deepEqual([answer.status, codeOf(answer)], [413, 'too-large']);
  }
  const refused = await shard.ask({ ...upload(large.length), body: large });
  t.deepEqual([refused.status, refused.bodySent], [413, false]);
  t.is((await call(shard.url, { method: 'PUT', path: first, body: 'x' })).status, 201);
  t.is((await shard.ask({ path: '/objects/vision/up' })).body.toString(), 'x');
  t.is(await metric(shard, 'kura_cache_tickets_total', 'refused'), 2);
  t.true((await metric(shard, 'kura_cache_received_bytes_total', 'direct')) >= 2 * body.length);
});

test('an upload under /direct/ that does not wait for 100 Continue is stored as under /objects/', async (t) => {
  const shard = await startDirectShard(t);
  for (const headers of [{ 'content-length': body.length }, { 'transfer-encoding': 'chunked' }]) {
    t.is((await shard.ask({ method: 'PUT', path: '/direct/vision/b', body, headers })).status, 201);
    t.true((await shard.ask({ path: '/objects/vision/b' })).body.equals(body));
  }
  t.is(await metric(shard, 'kura_cache_received_bytes_total', 'direct'), 0);
});

test('a ticket is valid for its object only: no other key, method, path, shard or version', async (t) => {
  const [shard, other] = [await startDirectShard(t), await startDirectShard(t)];
  await shard.ask({ method: 'PUT', path: '/objects/vision/b', body });
  const target = await shard.ticket({ path: '/direct/vision/a' });
  const ticket = target.split('/')[2] as string;
  let refused = 0;
  for (const headers of [{}, unusual]) {
    for (const request of [
      { path: `/ticket/${ticket}/objects/vision/b` },
      { path: `/ticket/${ticket}/objects/vision/a?x` },
      { path: `/ticket/${ticket}/direct/vision/a` },
      { path: `/ticket/${ticket}/healthz` },
      { path: `/ticket/${ticket}` },
      { path: `/ticket/${ticket}/objects/` },
      { path: `/ticket/${ticket}/ticket/${ticket}/objects/vision/a` },
      { path: `/ticket/x/${ticket}/objects/vision/a` },
      { path: '/ticket/' },
      { path: target, method: 'HEAD' },
      { path: target, method: 'DELETE' },
      { path: target, method: 'POST' },
      { path: target, method: 'PUT', body: 'x' },
      { path: target, method: 'PUT', body: 'x', expect: true },
    ]) {
      const answer = await call(shard.url, { ...request, headers });
      refused += 1;
      t.is(answer.status, 403, JSON.stringify(request));
      if (request.method !== 'HEAD') t.is(codeOf(answer), 'bad-ticket');
      t.false(answer.bodySent && request.expect === true);
    }
    t.is((await call(other.url, { path: target, headers })).status, 403);
    t.is((await call(shard.url, { path: '/objects/vision/a', headers })).status, 401);
    t.is((await call(shard.url, { path: '/direct/vision/a', headers })).status, 401);
  }
  t.is(await metric(shard, 'kura_cache_tickets_total', 'refused'), refused);
  t.is(await metric(shard, 'kura_cache_bad_callers_total', 'missing'), 4);
  t.true((await call(shard.url, { path: target })).body.equals(body));
  await shard.ask({ method: 'PUT', path: '/objects/vision/a', body: randomBytes(1_000_000) });
  for (const headers of [{}, unusual]) {
    const replaced = await call(shard.url, { path: target, headers });
    t.deepEqual([replaced.status, codeOf(replaced)], [404, 'miss']);
  }
});

test('a read of an object that is replaced all the time returns one whole version or a miss', async (t) => {
  const shard = await startDirectShard(t);
  const versions = Array.from({ length: 4 }, (_, at) => Buffer.alloc(900_000 + at, 65 + at));
  let isDone = false;
  const write = async () => {
    for (let round = 0; round < 60; round += 1)
      await shard.ask({ method: 'PUT', path: '/objects/vision/a', body: versions[round % versions.length] as Buffer });
    isDone = true;
  };
  let whole = 0;
  const read = async () => {
    while (!isDone) {
      const answer = await call(shard.url, { path: await shard.ticket({ path: '/direct/vision/a' }) });
      if (answer.status === 404) continue;
      t.is(answer.status, 200);
      t.true(answer.complete && (answer.body.equals(body) || versions.some((version) => version.equals(answer.body))));
      whole += 1;
    }
  };
  await Promise.all([write(), read(), read()]);
  t.true(whole > 5);
});

test('a ticket expires and is counted as expired; a transfer that has started continues', async (t) => {
  const shard = await startDirectShard(t, { KURA_CACHE_TICKET_LIFE: '10s' });
  const target = await shard.ticket({ path: '/direct/vision/a' });
  const put = await shard.ticket(upload());
  let send: () => void = () => undefined;
  const slow = Readable.from(
    (async function* () {
      yield body.subarray(0, 500_000);
      await new Promise<void>((resolve) => (send = resolve));
      yield body.subarray(500_000);
    })(),
    { objectMode: false },
  );
  const uploading = call(shard.url, { method: 'PUT', path: put, body: slow, headers: { 'content-length': body.length } });
  await waitFor('the upload has started', async () => (await metric(shard, 'kura_cache_tickets_total', 'used')) === 1);
  await waitFor('the ticket has expired', async () => (await call(shard.url, { path: target })).status === 403);
  t.true((await metric(shard, 'kura_cache_tickets_total', 'expired')) >= 1);
  t.is(await metric(shard, 'kura_cache_tickets_total', 'refused'), 0);
  send();
  t.is((await uploading).status, 201);
});

test('a shard writes no ticket to its log, and rejects the tickets from before a restart', async (t) => {
  const directory = path.join(await temporaryDirectory(t), 'shard');
  const environment = {
    KURA_CACHE_DIRECTORY: directory,
    KURA_CACHE_ADVERTISE: 'localhost:7000',
    KURA_CACHE_LOG_LEVEL: 'trace',
    KURA_CACHE_DIRECT_MIN_BYTES: minBytes,
  };
  const first = await startCacheProcess(t, environment);
  const url = `http://${first.listening.objects}`;
  await call(url, { method: 'PUT', path: '/objects/vision/a', body });
  const location = (await call(url, { path: '/direct/vision/a' })).headers.location as string;
  t.true(location.startsWith('http://localhost:7000/ticket/'));
  const target = location.slice('http://localhost:7000'.length);
  t.is((await call(url, { path: target })).status, 200);
  t.is((await call(url, { path: `${target}x` })).status, 403);
  first.child.kill('SIGTERM');
  t.is(await first.ended, 0);
  const second = await startCacheProcess(t, environment);
  const again = `http://${second.listening.objects}`;
  t.is((await call(again, { path: target })).status, 403);
  t.is((await call(again, { path: '/objects/vision/a' })).status, 200);
  const [, , ticket] = target.split('/') as [string, string, string];
  for (const part of ticket.split('.')) t.false((first.output() + second.output()).includes(part));
});

test('each shard of a Pod redirects to its own port', async (t) => {
  for (const [advertise, prefix] of [
    ['127.0.0.1', undefined],
    ['127.0.0.1:9000', 'http://127.0.0.1:900'],
    ['fd00::1', 'http://[fd00::1]:'],
    ['[fd00::1]:9000', 'http://[fd00::1]:900'],
  ] as const) {
    const pod = await startCacheProcess(t, {
      KURA_CACHE_SHARDS: '2',
      KURA_CACHE_DIRECTORY: await temporaryDirectory(t),
      KURA_CACHE_POD_LISTEN: '127.0.0.1:0',
      KURA_CACHE_ADVERTISE: advertise,
      KURA_CACHE_DIRECT_MIN_BYTES: minBytes,
    });
    for (const number of [0, 1]) {
      const url = `http://${pod.listening[`objects-${number}`]}`;
      await call(url, { method: 'PUT', path: '/objects/a', body });
      const { location } = (await call(url, { path: '/direct/a' })).headers as { location: string };
      const expected = prefix === undefined ? url : prefix.endsWith('900') ? `${prefix}${number}` : prefix + url.split(':').at(-1);
      t.true(location.startsWith(`${expected}/ticket/`), location);
    }
    pod.child.kill('SIGTERM');
    t.is(await pod.ended, 0);
  }
});
