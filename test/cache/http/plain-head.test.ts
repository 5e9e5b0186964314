import { createServer, type IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import test from 'ava';
import fc from 'fast-check';
import { KnownFields } from '../../../services/cache/http/known-fields.ts';
import { readNodeHead } from '../../../services/cache/http/node-head.ts';
import { readPlainHead } from '../../../services/cache/http/plain-head.ts';

/** Parses the same bytes with Node's parser. Resolves with undefined if it rejects them. */
async function readWithNode(bytes: Buffer): Promise<IncomingMessage | undefined> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<IncomingMessage | undefined>();
  server.on('request', resolve);
  server.on('checkContinue', resolve);
  server.on('clientError', () => resolve(undefined));
  server.on('upgrade', () => resolve(undefined));
  const socket = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  socket.on('error', () => {});
  server.emit('connection', socket);
  socket.push(bytes);
  setImmediate(() => setImmediate(() => resolve(undefined)));
  const request = await promise;
  socket.destroy();
  return request;
}

const keyText = fc.oneof(
  fc.constantFrom('a/b', 's3://h:1/b/k.jpg', 'a//b', 'a%20b?x=1', 'k'),
  fc.string({ unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)), minLength: 1, maxLength: 20 }),
);
const fieldName = fc.oneof(
  fc.constantFrom(
    'Host',
    'host',
    'Range',
    'If-None-Match',
    'if-range',
    'If-Match',
    'if-modified-since',
    'traceparent',
    'If-Unmodified-Since',
    'Cache-Control',
    'Content-Encoding',
    'content-range',
    'Content-MD5',
    'content-digest',
    'x-amz-content-sha256',
    'Content-Length',
    'content-length',
    'Connection',
    'Transfer-Encoding',
    'Expect',
    'Upgrade',
    'x-kura-caller',
    'X-Kura-Caller',
    'x-kura-terms',
    'X-KURA-TERMS',
    'X-Forwarded-Proto',
    'Content-Type',
    'x-request-id',
    'Keep-Alive',
    'Host ',
    ' Host',
    'A\tB',
    '',
  ),
  fc.string({ maxLength: 8 }),
);
const fieldValue = fc.oneof(
  fc.constantFrom(
    'localhost',
    'http',
    '0',
    '5',
    '05',
    '+5',
    '5, 5',
    '-1',
    '0x5',
    'close',
    'keep-alive',
    'Close',
    'keep-alive, upgrade',
    'chunked',
    'gzip, chunked',
    '100-continue',
    'bytes=0-9',
    '"tag"',
    '',
    '  x  ',
    'a\tb',
    '99999999999999999999',
    'vision/trainer/-',
    'max-object-bytes=5; max-share=0.5; direct=no; exp=1790000000; sig=aGVsbG8',
  ),
  fc.string({ maxLength: 12 }),
  fc.string({ unit: 'binary', maxLength: 6 }),
);
const lineBreak = fc.oneof(
  { weight: 60, arbitrary: fc.constant('\r\n') },
  { weight: 1, arbitrary: fc.constantFrom('\n', '\r', '\r\r\n', '\r\n ', '\n\r\n') },
);
const colon = fc.oneof({ weight: 20, arbitrary: fc.constant(': ') }, { weight: 3, arbitrary: fc.constantFrom(':', ' : ', ':\t', '') });
const field = fc.tuple(fieldName, colon, fieldValue, lineBreak).map((parts) => parts.join(''));
const requestLine = fc
  .tuple(
    fc.oneof(
      { weight: 10, arbitrary: fc.constantFrom('GET', 'HEAD', 'PUT', 'DELETE') },
      { weight: 1, arbitrary: fc.constantFrom('get', 'POST', 'GETX', '\r\nGET', 'G\0T') },
    ),
    fc.oneof(
      { weight: 20, arbitrary: fc.constantFrom(' /objects/', ' /direct/', ' /through/', ' /ticket/a-B_1.c/objects/') },
      {
        weight: 1,
        arbitrary: fc.constantFrom(
          '  /objects/',
          '\t/objects/',
          ' /other/',
          ' http://h/objects/',
          ' /ticket/a b/objects/',
          ' /ticket/\xe9/objects/',
        ),
      },
    ),
    keyText,
    fc.oneof(
      { weight: 20, arbitrary: fc.constant(' HTTP/1.1') },
      { weight: 1, arbitrary: fc.constantFrom(' HTTP/1.0', ' HTTP/1.10', ' http/1.1', '', ' HTTP/2.0', '  HTTP/1.1', ' HTTP/1.1 ') },
    ),
    lineBreak,
  )
  .map((parts) => parts.join(''));
const head = fc
  .tuple(
    requestLine,
    fc.constantFrom(...Array.from({ length: 8 }, () => 'Host: localhost\r\n'), ''),
    fc.array(field, { maxLength: 4 }),
    fc.constantFrom(...Array.from({ length: 8 }, () => '\r\n'), '\n', ''),
  )
  .map(([line, host, fields, end]) => line + host + fields.join('') + end);

test('Node accepts every head that the plain parser accepts, with the same meaning', async (t) => {
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(head, fc.string({ maxLength: 5 }), async (text, rest) => {
      const bytes = Buffer.from(text + rest, 'latin1');
      const plain = readPlainHead(bytes);
      if (plain.kind !== 'request') return;
      accepted += 1;
      const node = await readWithNode(bytes);
      if (node === undefined) throw new Error('Node rejects it');
      const read = readNodeHead(node);
      if (read.kind !== 'request') throw new Error(`the edge on Node's parser reads ${JSON.stringify(read)}`);
      const {
        kind: _kind,
        headBytes: _headBytes,
        isLast: _isLast,
        protocol: _protocol,
        ...expected
      } = plain as typeof plain & { protocol: unknown };
      // Both edges pass these to the handlers, so all fields must be equal.
      const actual = { ...read.applicant };
      if (!isDeepStrictEqual(actual, expected))
        throw new Error(`Node reads ${JSON.stringify(actual)}, the plain parser ${JSON.stringify(expected)}`);
      const { headers } = node;
      for (const name of ['transfer-encoding', 'expect', 'upgrade']) if (headers[name] !== undefined) throw new Error(`it has ${name}`);
      const closes = /(^|,)\s*close\s*(,|$)/i.test(headers.connection ?? '');
      if (closes !== plain.isLast) throw new Error('they do not agree on whether the connection stays open');
    }),
    { numRuns: 6000 },
  );
  t.true(accepted > 500, `only ${accepted} heads were accepted, too few for a test`);
});

test('heads as Envoy, wrk, curl and pfio send them are plain, in one piece and cut anywhere', (t) => {
  const heads = [
    'GET /objects/vision/a HTTP/1.1\r\nHost: 127.0.0.1:8099\r\n\r\n',
    'GET /objects/vision/a HTTP/1.1\r\nhost: kura\r\nuser-agent: curl/8\r\naccept: */*\r\nx-forwarded-proto: http\r\nx-request-id: 8e5b\r\nx-kura-caller: vision/trainer/trainer-0\r\nx-kura-terms: max-object-bytes=5; exp=1790000000; sig=aGVsbG8\r\nx-envoy-expected-rq-timeout-ms: 15000\r\n\r\n',
    'PUT /objects/vision/s3://e/b/k HTTP/1.1\r\nHost: kura\r\nAccept-Encoding: identity\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n',
    'HEAD /objects/a HTTP/1.1\r\nHost: kura\r\nConnection: close\r\n\r\n',
    'DELETE /objects/a HTTP/1.1\r\nHost: kura\r\n\r\n',
  ];
  for (const text of heads) {
    t.is(readPlainHead(Buffer.from(text)).kind, 'request', text);
    for (let cut = 0; cut < text.length; cut += 1) t.is(readPlainHead(Buffer.from(text.slice(0, cut))).kind, 'incomplete');
  }
});

test('a request with another framing goes to Node', (t) => {
  for (const field of [
    'Transfer-Encoding: chunked',
    'Expect: 100-continue',
    'Content-Length: 1\r\nContent-Length: 1',
    'Content-Length: 1, 1',
    'Connection: upgrade',
    'Host: other',
    'Content-Length : 1',
    'X: a\r\n b',
    'X: a\nb',
    'X: \x7f',
    'X: é',
  ]) {
    t.is(readPlainHead(Buffer.from(`PUT /objects/a HTTP/1.1\r\nHost: kura\r\n${field}\r\n\r\n`, 'latin1')).kind, 'unusual', field);
  }
  t.is(readPlainHead(Buffer.from('GET /objects/a HTTP/1.1\r\nHost: kura\r\nContent-Length: 5\r\n\r\nhello')).kind, 'unusual');
  t.is(readPlainHead(Buffer.from('PUT /objects/a HTTP/1.1\r\nHost: kura\r\n\r\n')).kind, 'unusual');
  t.is(readPlainHead(Buffer.from('GET /objects/a HTTP/1.1\r\n\r\n')).kind, 'unusual');
});

test('a request with two callers or two terms goes to Node, which joins them to one value without a valid signature', async (t) => {
  for (const [name, field] of [
    ['caller', 'x-kura-caller'],
    ['terms', 'x-kura-terms'],
  ] as const) {
    const once = Buffer.from(`GET /objects/a HTTP/1.1\r\nHost: kura\r\n${field}: v\r\n\r\n`);
    t.like(readPlainHead(once), { kind: 'request', [name]: 'v' });
    for (const lines of [`${field}: v\r\n${field}: v`, `${field}: v\r\n${field.toUpperCase()}: v`]) {
      const twice = Buffer.from(`GET /objects/a HTTP/1.1\r\nHost: kura\r\n${lines}\r\n\r\n`);
      t.is(readPlainHead(twice).kind, 'unusual');
      const read = readNodeHead((await readWithNode(twice)) as IncomingMessage);
      t.like(read, { kind: 'request', applicant: { [name]: 'v, v' } });
    }
  }
});

test('a head with known fields has the meaning that it has without them', async (t) => {
  const known = new KnownFields();
  await fc.assert(
    fc.property(head, (text) => {
      const bytes = Buffer.from(text, 'latin1');
      const plain = readPlainHead(bytes);
      for (let at = 0; at < 10; at += 1) t.deepEqual(readPlainHead(bytes, known), plain);
    }),
    { numRuns: 2_000 },
  );
  t.true(known.size > 0);
});

test('known fields have a limit, and fields that hardly repeat are not kept', (t) => {
  const known = new KnownFields();
  const read = (fields: string) => readPlainHead(Buffer.from(`GET /objects/a HTTP/1.1\r\nHost: kura\r\n${fields}\r\n\r\n`), known);
  for (let at = 0; at < 100; at += 1) {
    for (const fields of [`Range: bytes=0-${at}`, `If-None-Match: "${at}"`, `X: ${'x'.repeat(1_100)}${at}`])
      t.is(read(fields).kind, 'request');
    readPlainHead(Buffer.from(`PUT /objects/a HTTP/1.1\r\nHost: kura\r\nContent-Length: ${at}\r\n\r\n`), known);
  }
  t.is(known.size, 0);
  for (let at = 0; at < 50_000; at += 1) t.like(read(`X-Kura-Caller: ${at}`), { kind: 'request', caller: String(at) });
  t.is(known.size, 4_096);
});
