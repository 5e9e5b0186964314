/** Conditional requests, ranges, encodings and digests, on both parsers. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { callerHeaders } from '../../support/caller.ts';
import { type Call, call as callPlainly } from '../../support/http.ts';
import { fileOf } from '../support/disk.ts';
import { startTestShard, type TestShard } from '../support/shard.ts';

const codeOf = (body: Buffer) => (JSON.parse(body.toString()) as { code: string }).code;

/** Sends bytes unchanged. Returns everything that the shard sends until it ends the connection. */
async function raw(t: ExecutionContext, shard: TestShard, text: string): Promise<string> {
  const { hostname, port } = new URL(shard.url);
  const socket = connect(Number(port), hostname);
  t.teardown(() => socket.destroy());
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(text, 'latin1');
  await once(socket, 'end');
  return Buffer.concat(chunks).toString('latin1');
}

for (const { edge, fields } of [
  { edge: 'plain parser', fields: {} },
  { edge: "Node's parser", fields: { te: 'trailers' } },
] as const) {
  const call: typeof callPlainly = (url: string, request: Call) =>
    callPlainly(url, { ...request, headers: { ...fields, ...request.headers } });
  const put = (shard: TestShard, key: string, body: Buffer | string, headers: Record<string, string | number> = {}) =>
    call(shard.url, { method: 'PUT', path: `/objects/${key}`, body, headers: { 'content-length': Buffer.byteLength(body), ...headers } });
  const get = (shard: TestShard, key: string, headers: Record<string, string> = {}) =>
    call(shard.url, { path: `/objects/${key}`, headers });

  test(`${edge}: a PUT with Content-Range is 400 and does not change the object`, async (t) => {
    const shard = await startTestShard(t);
    await put(shard, 'a', '0123456789');
    const part = await put(shard, 'a', 'ABCDE', { 'content-range': 'bytes 0-4/10' });
    t.deepEqual([part.status, codeOf(part.body)], [400, 'partial-upload']);
    t.is((await get(shard, 'a')).body.toString(), '0123456789');
  });

  test(`${edge}: a content encoding is returned unchanged for every Accept-Encoding; aws-chunked is 415`, async (t) => {
    const shard = await startTestShard(t);
    const packed = gzipSync(randomBytes(5000));
    const stored = await put(shard, 'g', packed, { 'content-encoding': 'gzip' });
    for (const accept of ['gzip', 'identity', 'br;q=1, *;q=0']) {
      const got = await get(shard, 'g', { 'accept-encoding': accept });
      t.deepEqual([got.status, got.headers['content-encoding'], got.headers.etag], [200, 'gzip', stored.headers.etag], accept);
      t.true(got.body.equals(packed));
    }
    for (const headers of [
      { 'content-encoding': 'aws-chunked' },
      { 'content-encoding': 'gzip,aws-chunked' },
      { 'x-amz-content-sha256': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER' },
    ]) {
      const refused = await put(shard, 's3', 'x', headers as Record<string, string>);
      t.deepEqual([refused.status, codeOf(refused.body)], [415, 'unsupported-encoding']);
    }
    t.is((await get(shard, 's3')).status, 404);
  });

  test(`${edge}: the condition of a write is compared with the stored version`, async (t) => {
    const shard = await startTestShard(t);
    const missing = await put(shard, 'a', 'one', { 'if-match': '*' });
    t.deepEqual([missing.status, codeOf(missing.body)], [412, 'precondition-failed']);
    const first = await put(shard, 'a', 'one', { 'if-none-match': '*' });
    const [tag, modified] = [first.headers.etag as string, (await get(shard, 'a')).headers['last-modified'] as string];
    t.is(first.status, 201);
    const earlier = new Date(Date.parse(modified) - 5000).toUTCString();
    for (const headers of [
      { 'if-none-match': '*' },
      { 'if-none-match': tag },
      { 'if-match': '"other"' },
      { 'if-match': `W/${tag}` },
      { 'if-unmodified-since': earlier },
    ]) {
      for (const method of ['PUT', 'DELETE']) {
        const refused = await call(shard.url, {
          method,
          path: '/objects/a',
          headers: headers as Record<string, string>,
          ...(method === 'PUT' ? { body: 'two' } : {}),
        });
        t.deepEqual([refused.status, codeOf(refused.body)], [412, 'precondition-failed'], `${method} ${JSON.stringify(headers)}`);
      }
    }
    t.is((await get(shard, 'a')).body.toString(), 'one');
    t.is((await put(shard, 'a', 'two', { 'if-match': tag })).status, 201);
    t.is((await put(shard, 'a', 'three', { 'if-match': tag })).status, 412);
    t.is((await put(shard, 'a', 'three', { 'if-match': `"x", ${(await get(shard, 'a')).headers.etag}` })).status, 201);
    t.is((await put(shard, 'a', 'four', { 'if-unmodified-since': new Date(Date.now() + 60_000).toUTCString() })).status, 201);
    t.is((await put(shard, 'a', 'five', { 'if-unmodified-since': 'no date' })).status, 201);
    t.is((await call(shard.url, { method: 'DELETE', path: '/objects/a', headers: { 'if-match': '*' } })).status, 204);
    t.is((await call(shard.url, { method: 'DELETE', path: '/objects/a', headers: { 'if-none-match': '"x"' } })).status, 404);
  });

  test(`${edge}: of many writers with the same condition, exactly one succeeds`, async (t) => {
    const shard = await startTestShard(t);
    const created = await Promise.all(Array.from({ length: 20 }, (_, at) => put(shard, 'a', `${at}`, { 'if-none-match': '*' })));
    t.is(created.filter(({ status }) => status === 201).length, 1);
    t.is(created.filter(({ status }) => status === 412).length, 19);
    const tag = created.find(({ status }) => status === 201)?.headers.etag as string;
    const replaced = await Promise.all(Array.from({ length: 20 }, (_, at) => put(shard, 'a', `new ${at}`, { 'if-match': tag })));
    t.is(replaced.filter(({ status }) => status === 201).length, 1);
  });

  test(`${edge}: a read whose condition fails is 412 or 304, also with a range`, async (t) => {
    const shard = await startTestShard(t);
    const tag = (await put(shard, 'a', 'text')).headers.etag as string;
    const modified = (await get(shard, 'a')).headers['last-modified'] as string;
    t.regex(modified, /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/);
    const earlier = new Date(Date.parse(modified) - 5000).toUTCString();
    for (const method of ['GET', 'HEAD']) {
      const status = async (headers: Record<string, string>) => (await call(shard.url, { method, path: '/objects/a', headers })).status;
      t.is(await status({ 'if-match': '"x"' }), 412);
      t.is(await status({ 'if-match': `W/${tag}` }), 412);
      t.is(await status({ 'if-match': '"x"', range: 'bytes=0-1' }), 412);
      t.is(await status({ 'if-match': tag }), 200);
      t.is(await status({ 'if-match': '*' }), 200);
      t.is(await status({ 'if-unmodified-since': earlier }), 412);
      t.is(await status({ 'if-unmodified-since': modified }), 200);
      t.is(await status({ 'if-match': tag, 'if-unmodified-since': earlier }), 200);
      t.is(await status({ 'if-modified-since': modified }), 304);
      t.is(await status({ 'if-modified-since': earlier }), 200);
      t.is(await status({ 'if-modified-since': 'yesterday' }), 200);
      t.is(await status({ 'if-none-match': '"x"', 'if-modified-since': modified }), 200);
    }
    t.is((await get(shard, 'a', { 'if-match': tag, range: 'bytes=0-1' })).body.toString(), 'te');
    t.deepEqual([(await get(shard, 'a', { range: 'bytes=0-1', 'if-range': modified })).status], [200]);
    await put(shard, 'empty', '');
    t.deepEqual(
      [(await get(shard, 'empty', { range: 'bytes=-5' })).status, (await get(shard, 'empty', { range: 'bytes=0-' })).status],
      [200, 416],
    );
  });

  test(`${edge}: a digest is compared before anything is stored`, async (t) => {
    const shard = await startTestShard(t);
    const body = randomBytes(600_000);
    const md5 = createHash('md5').update(body).digest('base64');
    const sha = createHash('sha256').update(body).digest('base64');
    const other = createHash('sha256').update('other').digest('base64');
    for (const headers of [
      { 'content-md5': md5 },
      { 'content-digest': `sha-256=:${sha}:` },
      { 'repr-digest': `sha-512=:AAAA:, sha-256=:${sha}:` },
    ])
      t.is((await put(shard, 'good', body, headers as Record<string, string>)).status, 201, JSON.stringify(headers));
    for (const headers of [
      { 'content-md5': createHash('md5').update('other').digest('base64') },
      { 'content-digest': `sha-256=:${other}:` },
      { 'content-md5': md5, 'repr-digest': `sha-256=:${other}:` },
    ]) {
      const refused = await put(shard, 'bad', body, headers as Record<string, string>);
      t.deepEqual([refused.status, codeOf(refused.body)], [400, 'digest-mismatch']);
    }
    for (const headers of [{ 'content-md5': 'AAAA' }, { 'content-digest': 'sha-256=:AAAA:' }, { 'content-digest': 'sha-256=x' }]) {
      const refused = await put(shard, 'bad', body, headers as Record<string, string>);
      t.deepEqual([refused.status, codeOf(refused.body)], [400, 'bad-digest']);
    }
    t.is((await get(shard, 'bad')).status, 404);
  });
}

test('a chunked body has the same size limit as a body with a length', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '64Mi' } });
  for (let at = 0; at < 40; at += 1)
    await callPlainly(shard.url, {
      method: 'PUT',
      path: `/objects/a/${at}`,
      body: randomBytes(500_000),
      headers: { 'content-length': 500_000 },
    });
  for (const body of [randomBytes(20_000_000), Readable.from(Array.from({ length: 20 }, () => randomBytes(1_000_000)))]) {
    const headers = Buffer.isBuffer(body) ? { 'content-length': body.length } : {};
    const refused = await callPlainly(shard.url, { method: 'PUT', path: '/objects/large', body, headers });
    t.deepEqual([refused.status, codeOf(refused.body)], [413, 'too-large']);
    t.regex(String(refused.body), /"This shard \(KURA_CACHE_MAX_OBJECT_PERCENT\) limits an object to 16777216 bytes\."/);
    const share = { ...callerHeaders({ maxShare: 0.1 }), ...headers };
    const another = Buffer.isBuffer(body) ? body : Readable.from(Array.from({ length: 20 }, () => randomBytes(1_000_000)));
    const overShare = await callPlainly(shard.url, { method: 'PUT', path: '/objects/large', body: another, headers: share });
    t.regex(String(overShare.body), /"The share of its namespace on this shard limits an object to \d{7} bytes\."/);
  }
  for (let at = 0; at < 40; at += 1) t.is((await callPlainly(shard.url, { path: `/objects/a/${at}` })).status, 200);
});

test('a request that is not valid HTTP/1.1, or is unusual, gets its response at once', async (t) => {
  const shard = await startTestShard(t);
  const first = (text: string) => text.split('\r\n', 1)[0];
  const noHost = await raw(t, shard, 'GET /objects/a HTTP/1.1\r\n\r\n');
  t.is(first(noHost), 'HTTP/1.1 400 Bad Request');
  t.regex(noHost, /"code":"bad-request"/);
  t.regex(noHost, /x-kura-shard: /);
  t.is(first(await raw(t, shard, 'GET /objects/a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n')), 'HTTP/1.1 400 Bad Request');
  const tunnel = await raw(t, shard, 'CONNECT kura:80 HTTP/1.1\r\nhost: kura\r\n\r\n');
  t.is(first(tunnel), 'HTTP/1.1 405 Method Not Allowed');
  t.regex(tunnel, /allow: GET, HEAD, PUT, DELETE/);
  t.regex(first(await raw(t, shard, 'GET /objects/a HTTP/1.1\nhost: kura\n\n')) as string, /^HTTP\/1\.1 400 /);
  const options = await raw(t, shard, 'OPTIONS * HTTP/1.1\r\nhost: kura\r\nconnection: close\r\n\r\n');
  t.is(first(options), 'HTTP/1.1 204 No Content');
  t.regex(options, /allow: GET, HEAD, PUT, DELETE/i);
  t.is(
    first(await raw(t, shard, 'GET /objects/a HTTP/1.1\r\nhost: kura\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n')),
    'HTTP/1.1 404 Not Found',
  );
  const gzip = await raw(t, shard, 'PUT /objects/a HTTP/1.1\r\nhost: kura\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n');
  t.is(first(gzip), 'HTTP/1.1 501 Not Implemented');
});

test('an object with trailer version 1 is served, and version 2 has the writer', async (t) => {
  const { encodeTrailer, decodeTrailer } = await import('../../../services/cache/disk/trailer.ts');
  const { crc32 } = await import('node:zlib');
  const shard = await startTestShard(t);
  const body = Buffer.from('written by an earlier version');
  const headers = {
    'content-length': body.length,
    'content-encoding': 'zstd',
    ...callerHeaders({ namespace: 'vision', serviceAccount: 'trainer', pod: 'trainer-0' }),
  };
  await callPlainly(shard.url, { method: 'PUT', path: '/objects/a', body, headers });
  const file = await fileOf(shard.directory, 'a');
  const { readFile, writeFile } = await import('node:fs/promises');
  const bytes = await readFile(file);
  const trailer = decodeTrailer(bytes.subarray(body.length + 4), bytes.length);
  t.deepEqual(
    [trailer?.namespace, trailer?.serviceAccount, trailer?.pod, trailer?.contentEncoding],
    ['vision', 'trainer', 'trainer-0', 'zstd'],
  );
  // Version 1: fewer strings, and another version number.
  const sums = Uint32Array.from([crc32(body)]);
  const meta = {
    key: 'a' as never,
    namespace: 'vision',
    contentType: 'text/plain',
    contentEncoding: '',
    serviceAccount: '',
    pod: '',
    origin: '',
    originVersion: '',
    length: body.length,
    committedAt: 1n,
  };
  const old = encodeTrailer(meta, sums);
  const fixed = old.length - 56;
  old.writeUInt16LE(1, fixed + 30);
  old.writeUInt32LE(crc32(old.subarray(4, fixed + 44)), fixed + 44);
  await shard.close();
  await writeFile(file, Buffer.concat([body, old]));
  const later = await startTestShard(t, { directory: shard.directory });
  const got = await callPlainly(later.url, { path: '/objects/a' });
  t.deepEqual(
    [got.status, got.body.toString(), got.headers['content-type'], got.headers['content-encoding']],
    [200, body.toString(), 'text/plain', undefined],
  );
});
