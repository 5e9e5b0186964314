import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import test from 'ava';
import { callerHeaders } from '../../support/caller.ts';
import { type Call, call as callPlainly } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { metric, startTestShard } from '../support/shard.ts';

/** A request with one of these fields is not plain, so that the shard answers it with Node's parser. */
const edges = [
  { edge: 'plain parser', fields: {} },
  { edge: "Node's parser", fields: { te: 'trailers' } },
] as const;

for (const { edge, fields } of edges) {
  const call: typeof callPlainly = (url: string, request: Call) =>
    callPlainly(url, { ...request, headers: { ...fields, ...request.headers } });

  test(`${edge}: an object of any size is returned byte for byte`, async (t) => {
    const shard = await startTestShard(t);
    for (const size of [0, 1, 4096, 112 * 1024, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 256 * 1024 + 500, 3_000_000]) {
      const body = randomBytes(size);
      const put = await call(shard.url, {
        method: 'PUT',
        path: `/objects/vision/${size}`,
        body,
        headers: { 'content-type': 'image/jpeg', 'content-length': size },
      });
      t.is(put.status, 201);
      t.is(put.headers['content-length'], '0');
      const got = await call(shard.url, { path: `/objects/vision/${size}` });
      t.is(got.status, 200);
      t.true(got.complete && got.body.equals(body), `${size}`);
      t.is(got.headers['content-length'], String(size));
      t.is(got.headers['content-type'], 'image/jpeg');
      t.is(got.headers['accept-ranges'], 'bytes');
      t.is(got.headers.etag, put.headers.etag);
      t.is(got.headers['x-kura-shard'], 'kura-cache-0/shard-0');
      const head = await call(shard.url, { method: 'HEAD', path: `/objects/vision/${size}` });
      t.deepEqual(
        [head.status, head.headers['content-length'], head.headers.etag, head.body.length],
        [200, String(size), put.headers.etag, 0],
      );
    }
  });

  test(`${edge}: a chunked body is stored like a body with a length, with and without Expect`, async (t) => {
    const shard = await startTestShard(t);
    const body = randomBytes(900_000);
    for (const expect of [false, true]) {
      const pieces = Readable.from([body.subarray(0, 10), body.subarray(10, 600_000), body.subarray(600_000)]);
      t.is((await call(shard.url, { method: 'PUT', path: `/objects/c/${expect}`, body: pieces, expect })).status, 201);
      t.true((await call(shard.url, { path: `/objects/c/${expect}` })).body.equals(body));
    }
  });

  test(`${edge}: a second PUT is also 201, and the next GET returns the new bytes and another ETag`, async (t) => {
    const shard = await startTestShard(t);
    const first = await call(shard.url, { method: 'PUT', path: '/objects/a/b', body: 'one' });
    await call(shard.url, { path: '/objects/a/b' });
    const second = await call(shard.url, { method: 'PUT', path: '/objects/a/b', body: 'two' });
    t.deepEqual([first.status, second.status], [201, 201]);
    t.not(first.headers.etag, second.headers.etag);
    t.is((await call(shard.url, { path: '/objects/a/b' })).body.toString(), 'two');
  });

  test(`${edge}: a key is used unchanged: nothing is decoded, joined or normalized`, async (t) => {
    const shard = await startTestShard(t);
    const keys = [
      'a//b',
      'a/b',
      'a/b/',
      's3://ep:9000/bucket/x.zip/pfio-zipfs/y.jpg',
      'a%2Fb',
      'a%2fb',
      'a?x=1',
      'a?x=2',
      'a%20b',
      "~!@$&'()*+,;=",
      '...',
      'a..',
      '..a/b',
    ];
    for (const key of keys) t.is((await call(shard.url, { method: 'PUT', path: `/objects/${key}`, body: key })).status, 201, key);
    for (const key of keys) t.is((await call(shard.url, { path: `/objects/${key}` })).body.toString(), key);
  });

  test(`${edge}: an invalid key is 400, another path 404`, async (t) => {
    const shard = await startTestShard(t);
    for (const key of ['', '.', '..', 'a/../b', 'a/.', './a', `${'k'.repeat(1025)}`]) {
      const answer = await call(shard.url, { path: `/objects/${key}` });
      t.deepEqual([answer.status, JSON.parse(answer.body.toString()).code], [400, 'bad-key'], key);
      t.is(answer.headers['content-type'], 'application/problem+json');
      t.is(answer.headers['x-kura-shard'], 'kura-cache-0/shard-0');
    }
    t.is((await call(shard.url, { method: 'PUT', path: `/objects/${'k'.repeat(1024)}`, body: 'x' })).status, 201);
    for (const path of ['/', '/objects', '/other']) t.is((await call(shard.url, { path })).status, 404);
  });

  test(`${edge}: a miss is 404, DELETE is 204 and then 404, another method 405 with Allow`, async (t) => {
    const shard = await startTestShard(t);
    const miss = await call(shard.url, { path: '/objects/a/b' });
    t.deepEqual([miss.status, JSON.parse(miss.body.toString()).code], [404, 'miss']);
    await call(shard.url, { method: 'PUT', path: '/objects/a/b', body: 'x' });
    await call(shard.url, { path: '/objects/a/b' });
    t.is((await call(shard.url, { method: 'DELETE', path: '/objects/a/b' })).status, 204);
    t.is((await call(shard.url, { path: '/objects/a/b' })).status, 404);
    t.is((await call(shard.url, { method: 'DELETE', path: '/objects/a/b' })).status, 404);
    const post = await call(shard.url, { method: 'POST', path: '/objects/a/b', body: 'x' });
    t.deepEqual([post.status, post.headers.allow], [405, 'GET, HEAD, PUT, DELETE']);
  });

  test(`${edge}: one range is 206, a range after the end is 416, and every other Range returns the whole object`, async (t) => {
    const shard = await startTestShard(t);
    const body = randomBytes(1_000_000);
    const { headers } = await call(shard.url, { method: 'PUT', path: '/objects/a/r', body });
    const etag = headers.etag as string;
    const get = (more: Record<string, string>) => call(shard.url, { path: '/objects/a/r', headers: more });
    for (const [range, start, end] of [
      ['bytes=0-0', 0, 1],
      ['bytes=262143-262144', 262143, 262145],
      ['bytes=500000-', 500000, 1_000_000],
      ['bytes=-5', 999_995, 1_000_000],
      ['bytes=999999-2000000', 999_999, 1_000_000],
      ['bytes=-2000000', 0, 1_000_000],
      ['Bytes=10-700000', 10, 700_001],
    ] as const) {
      const part = await get({ range });
      t.is(part.status, 206, range);
      t.is(part.headers['content-range'], `bytes ${start}-${end - 1}/1000000`);
      t.true(part.body.equals(body.subarray(start, end)), range);
    }
    for (const range of ['bytes=1000000-', 'bytes=-0']) {
      const past = await get({ range });
      t.deepEqual(
        [past.status, past.headers['content-range'], JSON.parse(past.body.toString()).code],
        [416, 'bytes */1000000', 'range-not-satisfiable'],
      );
    }
    for (const range of ['bytes=0-1,4-5', 'bytes=5-1', 'bytes=-', 'bytes=a-b', 'items=0-1', 'bytes 0-1']) {
      const whole = await get({ range });
      t.deepEqual([whole.status, whole.body.length], [200, 1_000_000], range);
    }
    t.is((await get({ range: 'bytes=0-9', 'if-range': etag })).status, 206);
    t.is((await get({ range: 'bytes=0-9', 'if-range': '"other"' })).status, 200);
    t.is((await get({ range: 'bytes=0-9', 'if-range': `W/${etag}` })).status, 200);
    const head = await call(shard.url, { method: 'HEAD', path: '/objects/a/r', headers: { range: 'bytes=0-9' } });
    t.deepEqual([head.status, head.headers['content-length']], [200, '1000000']);
  });

  test(`${edge}: If-None-Match with the stored version is 304 without a body`, async (t) => {
    const shard = await startTestShard(t);
    const { headers } = await call(shard.url, { method: 'PUT', path: '/objects/a/n', body: 'text' });
    const etag = headers.etag as string;
    for (const method of ['GET', 'HEAD']) {
      for (const field of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
        const answer = await call(shard.url, { method, path: '/objects/a/n', headers: { 'if-none-match': field } });
        t.deepEqual([answer.status, answer.headers.etag, answer.body.length], [304, etag, 0], field);
      }
      t.is((await call(shard.url, { method, path: '/objects/a/n', headers: { 'if-none-match': '"other"' } })).status, 200);
    }
  });

  test(`${edge}: an object larger than the policy allows is 413, with a length and chunked, and nothing is stored`, async (t) => {
    const shard = await startTestShard(t);
    const headers = { ...callerHeaders({ maxObjectBytes: 1000 }) };
    const body = randomBytes(1001);
    for (const sent of [body, Readable.from([body.subarray(0, 900), body.subarray(900)])]) {
      const answer = await call(shard.url, { method: 'PUT', path: '/objects/a/l', body: sent, headers });
      const { code, detail } = JSON.parse(answer.body.toString());
      t.deepEqual([answer.status, code, detail], [413, 'too-large', 'The policy limits an object to 1000 bytes.']);
    }
    t.is((await call(shard.url, { path: '/objects/a/l' })).status, 404);
    t.is((await call(shard.url, { method: 'PUT', path: '/objects/a/l', body: body.subarray(1), headers })).status, 201);
    const malformed = { ...headers, 'x-kura-terms': 'max-object-bytes=much; exp=99999999999' };
    t.is((await call(shard.url, { method: 'PUT', path: '/objects/a/l', body, headers: malformed })).status, 401);
  });

  test(`${edge}: a rejected body is read before the response, unless the client waits for 100 Continue`, async (t) => {
    const shard = await startTestShard(t);
    const headers = { ...callerHeaders({ maxObjectBytes: 1000 }) };
    const body = randomBytes(20_000_000);
    const answer = await call(shard.url, { method: 'PUT', path: '/objects/a/d', body, headers });
    t.is(answer.status, 413);
    const waiting = await call(shard.url, {
      method: 'PUT',
      path: '/objects/a/d',
      body,
      headers: { ...headers, 'content-length': body.length },
      expect: true,
    });
    t.deepEqual([waiting.status, waiting.bodySent], [413, false]);
  });

  test(`${edge}: the object port and the metrics port report their health without a caller`, async (t) => {
    const shard = await startTestShard(t);
    const health = await call(shard.url, { path: '/healthz' });
    t.deepEqual([health.status, health.headers['x-kura-shard']], [200, 'kura-cache-0/shard-0']);
    t.is((await call(shard.metricsUrl, { path: '/readyz' })).status, 200);
    t.is((await call(shard.metricsUrl, { path: '/livez' })).status, 200);
  });
  test(`${edge}: a health check names the cluster, keeps its connection, and does not delay the end of the shard`, async (t) => {
    const shard = await startTestShard(t, { environment: { KURA_CACHE_GRACE: '55s' } });
    const { host, hostname, port } = new URL(shard.url);
    const socket = connect(Number(port), hostname);
    t.teardown(() => socket.destroy());
    let received = '';
    socket.setEncoding('latin1').on('data', (text) => (received += text));
    const head = ['GET /healthz HTTP/1.1', `host: ${host}`, ...Object.entries(fields).map((field) => field.join(': ')), '', ''].join(
      '\r\n',
    );
    for (const count of [1, 2, 3]) {
      socket.write(head);
      await waitFor(`response ${count}`, () => received.match(/\nok\n/g)?.length === count);
    }
    t.is(received.match(/x-envoy-upstream-healthchecked-cluster: kura-cache\r\n/gi)?.length, 3);
    t.notRegex(received, /connection: close/i);
    const ended = once(socket, 'end');
    const startedAt = performance.now();
    await Promise.all([shard.close(), ended]);
    t.true(performance.now() - startedAt < 50_000, 'an idle health connection does not use up the grace time');
  });

  test(`${edge}: only requests that are not plain are handed over to Node's parser`, async (t) => {
    const shard = await startTestShard(t);
    for (const method of ['PUT', 'GET', 'HEAD', 'DELETE'])
      await call(shard.url, { method, path: '/objects/a/e', ...(method === 'PUT' ? { body: 'x' } : {}) });
    t.is(await metric(shard, 'kura_cache_handed_over_total'), edge === 'plain parser' ? 0 : 4);
  });

  test(`${edge}: a transfer that the client aborts counts as failed`, async (t) => {
    const shard = await startTestShard(t);
    const body = randomBytes(40_000_000);
    t.is((await call(shard.url, { method: 'PUT', path: '/objects/a/broken', body })).status, 201);
    const { host, hostname, port } = new URL(shard.url);
    const lines = ['GET /objects/a/broken HTTP/1.1', `host: ${host}`, ...Object.entries(fields).map((field) => field.join(': ')), '', ''];
    const socket = connect(Number(port), hostname);
    socket.write(lines.join('\r\n'));
    await once(socket, 'data');
    socket.destroy();
    const failed = () => metric(shard, 'kura_cache_requests_total', 'method="GET",result="failed"');
    await waitFor('the broken transfer is counted', async () => (await failed()) === 1);
    t.is(await metric(shard, 'kura_cache_requests_total', 'method="GET",result="hit"'), 0);
  });
}

test('data survives a restart', async (t) => {
  const first = await startTestShard(t);
  for (let at = 0; at < 50; at += 1) await callPlainly(first.url, { method: 'PUT', path: `/objects/a/${at}`, body: `body ${at}` });
  await first.close();
  const second = await startTestShard(t, { directory: first.directory });
  for (let at = 0; at < 50; at += 1) t.is((await callPlainly(second.url, { path: `/objects/a/${at}` })).body.toString(), `body ${at}`);
  await waitFor('all objects are counted', async () => (await metric(second, 'kura_cache_objects')) === 50);
});

test('the least recently used objects are evicted for new ones, and the limit holds', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '16Mi' } });
  const body = randomBytes(500_000);
  for (let at = 0; at < 60; at += 1) {
    t.is((await callPlainly(shard.url, { method: 'PUT', path: `/objects/a/${at}`, body })).status, 201);
    t.is((await callPlainly(shard.url, { path: '/objects/a/0' })).status, 200, `after ${at}`);
    t.true((await metric(shard, 'kura_cache_used_bytes')) <= 16 * 1024 * 1024);
  }
  t.is((await callPlainly(shard.url, { path: '/objects/a/1' })).status, 404);
  t.is((await callPlainly(shard.url, { path: '/objects/a/59' })).status, 200);
  t.true((await metric(shard, 'kura_cache_evicted_objects_total')) > 20);
});
