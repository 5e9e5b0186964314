/** A grant is only faster: each request has the same result with a grant as with a full check by the policy. */
import { createSecretKey } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'ava';
import fc from 'fast-check';
import { CallerSigner } from '../../services/authz/caller-signer.ts';
import { createDecide, type Decide } from '../../services/authz/decision.ts';
import { parsePolicy } from '../../services/authz/policy/document.ts';
import { compilePolicy } from '../../services/authz/policy/policy.ts';
import { nameIn, tokenOf } from './support/decisions.ts';
import { type Rig, startRig } from './support/rig.ts';

const maxObjectBytes = 1_000;

/** With a deny inside an allowed prefix, prefixes without a slash at the end, and one with a query. */
const policyText = `
apiVersion: kura/v1
kind: AccessPolicy
mode: enforce
default: deny
limits: { maxObjectBytes: ${maxObjectBytes} }
rules:
  - { name: own, effect: allow, subjects: [{ namespaces: [vision] }], verbs: [GET, HEAD, PUT, DELETE], keys: ["{namespace}/"] }
  - { name: secret, effect: deny, subjects: [{ namespaces: ["*"] }], verbs: [GET, HEAD, PUT, DELETE], keys: [vision/secret/] }
  - { name: frozen, effect: deny, subjects: [{ namespaces: [vision] }], verbs: [PUT, DELETE], keys: [vision/frozen] }
  - { name: data, effect: allow, subjects: [{ namespaces: [vision] }], verbs: [GET, HEAD], keys: [data] }
  - { name: query, effect: allow, subjects: [{ namespaces: [vision] }], verbs: [GET, PUT], keys: ["q/a?b"] }
`;

const segments = [
  ...['vision', 'secret', 'frozen', 'frozen2', 'data', 'database', 'q', 'a?b', 'a?c', 'nlp', 'Vision', 'visio', 'x', ''],
  ...['.', '..', '...', '.x', '..x', '%2e', '%2E%2e', '%2f', '%5c', '\\', ';', '..;', '?', '??', '#', '%00', '%zz', '%', '%25', '%2525'],
  ...[
    'sec%72et',
    '%76ision',
    'a(b',
    'a%28b',
    'secret%2f',
    'secret;',
    'secret?',
    'é',
    '%c3%a9',
    '%C3%A9',
    '~',
    '"',
    '<',
    '|',
    '*',
    '@',
    ':',
  ],
  ...['s3:', 'k'.repeat(600)],
];
const methods = ['GET', 'HEAD', 'PUT', 'DELETE', 'POST', 'PATCH', 'OPTIONS', 'PROPFIND', 'MKCOL'];

/** `length` undefined sends no body, and `chunked` one of 2 bytes. */
interface Asked {
  readonly method: string;
  readonly path: string;
  readonly length: number | 'chunked' | undefined;
}

const asked: fc.Arbitrary<Asked> = fc.record({
  method: fc.oneof({ arbitrary: fc.constantFrom('GET', 'PUT'), weight: 1 }, { arbitrary: fc.constantFrom(...methods), weight: 1 }),
  path: fc
    .tuple(
      fc.oneof(
        { arbitrary: fc.constantFrom('/objects/', '/direct/'), weight: 9 },
        { arbitrary: fc.constantFrom('/ticket/', '/objects', '/'), weight: 1 },
      ),
      fc.constantFrom('', 'vision/', 'vision/', 'vision/secret/', 'data', 'q/'),
      fc.array(fc.constantFrom(...segments), { minLength: 1, maxLength: 3 }),
    )
    .map(([root, first, rest]) => `${root}${first}${rest.join('/')}`),
  length: fc.constantFrom(undefined, undefined, 0, maxObjectBytes - 1, maxObjectBytes, maxObjectBytes + 1, 'chunked' as const),
});

test('each of 900 requests has the same result with a grant as with a full check', async (t) => {
  t.timeout(300_000);
  const rig = await startRig(t);
  const [withGrants, withoutGrants] = [createDecider(60), createDecider(0)];
  rig.decide = (question) => (nameIn(question.token) === 'granted' ? withGrants(question) : withoutGrants(question));
  const first: Asked = { method: 'GET', path: '/objects/vision/first', length: undefined };
  t.is((await resultOf(rig, first, 'granted')).status, '404', 'the shard has no object');
  let byGrant = 0;
  const property = fc.asyncProperty(asked, async (request) => {
    const before = rig.asked.length;
    const granted = await resultOf(rig, request, 'granted');
    if (granted.forwarded !== undefined && rig.asked.length === before) byGrant += 1;
    const checked = await resultOf(rig, request, 'checked');
    t.deepEqual(granted, checked, JSON.stringify(request));
  });
  await fc.assert(property, { numRuns: 900 });
  t.log(`${byGrant} of 900 by the grant`);
  t.true(byGrant > 50, 'the grant covers too few requests for a comparison');
});

function createDecider(grantSeconds: number): Decide {
  const parsed = parsePolicy(policyText);
  if (parsed.kind !== 'document') throw new Error(JSON.stringify(parsed));
  const compiled = compilePolicy(parsed.value);
  if (compiled.kind !== 'policy') throw new Error(JSON.stringify(compiled));
  const { policy } = compiled;
  const identity = { namespace: 'vision', serviceAccount: 'trainer', pod: { name: 'trainer-0', uid: 'u' } };
  const key = createSecretKey(Buffer.from('credential-of-the-test-0123456789'));
  return createDecide({
    isLate: () => false,
    resolve: async () => ({ kind: 'identity', identity, cached: true, goodUntil: Date.now() + 3_600_000 }),
    policy: () => policy,
    next: () => undefined,
    origins: () => [],
    version: () => 'v1',
    labelsOf: () => ({}),
    throttle: async () => undefined,
    signer: new CallerSigner({ keys: () => [key], now: Date.now }),
    grantSeconds,
    now: Date.now,
  });
}

interface Result {
  readonly status: string | undefined;
  /** Without the date. */
  readonly response: string;
  /** What the shard got: the first line, the caller and the terms without their end and signature. */
  readonly forwarded: string | undefined;
}

/** Sends the bytes of a request on a new connection: a client library would repair them. */
async function resultOf(rig: Rig, { method, path, length }: Asked, token: string): Promise<Result> {
  const body = { undefined: '', chunked: '2\r\nab\r\n0\r\n\r\n' }[String(length)] ?? 'x'.repeat(Number(length));
  const framing = length === undefined ? [] : [length === 'chunked' ? 'transfer-encoding: chunked' : `content-length: ${length}`];
  const lines = [`${method} ${path} HTTP/1.1`, 'host: kura', `authorization: Bearer ${tokenOf(token)}`, 'connection: close', ...framing];
  const received = rig.recorder.requests.length;
  const socket = connect(rig.port, '127.0.0.1');
  let text = '';
  socket.setEncoding('latin1').on('data', (chunk) => (text += chunk));
  socket.on('error', () => undefined);
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`, 'latin1');
  await once(socket, 'close');
  const [request] = rig.recorder.requests.slice(received);
  const terms = String(request?.headers['x-kura-terms']).replace(/exp=\d+; sig=.*/, '');
  return {
    status: /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1],
    response: text.replace(/date: .*\r\n/, ''),
    forwarded: request && `${request.method} ${request.url} ${request.headers['x-kura-caller']} ${terms}`,
  };
}
