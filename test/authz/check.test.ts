/** authz over its real gRPC socket, with a Kubernetes API whose responses the test controls. */
import { createSecretKey } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import path from 'node:path';
import { credentials } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import type { CheckResponse__Output } from '../../proto/generated/envoy/service/auth/v3/CheckResponse.ts';
import { loadEnvoyProtos } from '../../proto/load.ts';
import { listen } from '../../services/shared/listen.ts';
import { readHeaders } from '../../services/shared/signed-terms.ts';
import { type Service, startService, temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';

const credential = 'first-credential-0123456789';

type Review = (token: string, response: ServerResponse) => void;

interface Asked {
  readonly method?: string;
  readonly target?: string;
  readonly headers?: Record<string, string>;
}

interface Setting {
  readonly authz: Service;
  /** The response of the API to a TokenReview; the test changes it. */
  api: { review: Review; reviews: number };
  readonly check: (asked: Asked) => Promise<CheckResponse__Output>;
  readonly metrics: () => Promise<string>;
}

const policy = await readFile(path.resolve(import.meta.dirname, '..', '..', 'k8s', 'base', 'policy.yaml'), 'utf8');
const good = token({ exp: Math.floor(Date.now() / 1000) + 3_600 });

/** A JWT in form alone: the API of these tests looks at nothing. */
function token(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'RS256' })}.${part({ aud: ['kura'], ...claims })}.c2ln`;
}

function answer(response: ServerResponse, status: object): void {
  response
    .writeHead(201, { 'content-type': 'application/json' })
    .end(JSON.stringify({ kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: {}, spec: {}, status }));
}

function user(overrides: object = {}): object {
  return {
    username: 'system:serviceaccount:vision:trainer',
    groups: ['system:serviceaccounts', 'system:authenticated'],
    extra: { 'authentication.kubernetes.io/pod-name': ['p'], 'authentication.kubernetes.io/pod-uid': ['u'] },
    ...overrides,
  };
}

const allow: Review = (_token, response) => answer(response, { authenticated: true, audiences: ['kura'], user: user() });

async function readToken(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return (JSON.parse(Buffer.concat(chunks).toString()) as { spec: { token: string } }).spec.token;
}

/** The policy that every namespace owns its prefix; watches that stay silent. */
function serveCollection(url: string, response: ServerResponse): void {
  const items = url.includes('/configmaps')
    ? [{ metadata: { name: 'kura-policy', namespace: 'kura-system', uid: 'c', resourceVersion: '1' }, data: { 'policy.yaml': policy } }]
    : [];
  response.writeHead(200, { 'content-type': 'application/json' });
  if (url.includes('watch=true')) response.flushHeaders();
  else response.end(JSON.stringify({ metadata: { resourceVersion: '1' }, items }));
}

async function setting(t: ExecutionContext, environment: Record<string, string> = {}): Promise<Setting> {
  const folder = await temporaryFolder(t);
  const api: Setting['api'] = { review: allow, reviews: 0 };
  const server = createServer((request, response) => {
    if (request.url?.startsWith('/api/v1/pods') || request.url === '/openid/v1/jwks') {
      // Neither watched nor checked locally: results live as long as RESULT_AGE says, and every token goes to the API.
      response.writeHead(404).end();
      return;
    }
    if (!request.url?.endsWith('/tokenreviews')) {
      serveCollection(request.url ?? '', response);
      return;
    }
    api.reviews++;
    void readToken(request).then((presented) => api.review(presented, response));
  });
  const listening = await listen(server, { host: '127.0.0.1', port: 0 });
  const kubeconfig = path.join(folder, 'kubeconfig');
  await writeFile(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: `http://${listening.address}`, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'u', user: { token: 'authz-own-token' } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  const socket = path.join(folder, 'authz.sock');
  const credentialFile = path.join(folder, 'keys');
  await writeFile(credentialFile, `${credential}\nanother-credential-0123456789\n`);
  const authz = await startService('authz', {
    KURA_AUTHZ_LISTEN: `unix:${socket}`,
    KURA_AUTHZ_METRICS_LISTEN: '127.0.0.1:0',
    KURA_AUTHZ_KUBECONFIG: kubeconfig,
    KURA_AUTHZ_CREDENTIAL_FILE: credentialFile,
    ...environment,
  });
  const { Authorization } = loadEnvoyProtos().envoy.service.auth.v3;
  await waitFor('authz is ready', async () => (await fetch(`http://${authz.listening.metrics}/readyz`)).ok);
  const client = new Authorization(`unix:${socket}`, credentials.createInsecure());
  t.teardown(async () => {
    client.close();
    await authz.stop('SIGKILL');
    await listening.close();
  });
  const check = ({
    method = 'GET',
    target = '/objects/vision/x',
    headers = { authorization: `Bearer ${good}` },
  }: Asked): Promise<CheckResponse__Output> =>
    new Promise((resolve, reject) => {
      const http = { method, path: target, ...(Object.keys(headers).length > 0 ? { headers } : {}) };
      client.Check({ attributes: { request: { http } } }, (error, response) => (response ? resolve(response) : reject(error)));
    });
  const metrics = async (): Promise<string> => (await fetch(`http://${authz.listening.metrics}/metrics`)).text();
  return { authz, api, check, metrics };
}

/** What a denial says: status, problem code and headers. */
interface Denial {
  readonly name: string;
  readonly code: string;
  readonly detail: string;
  readonly headers: Record<string, string>;
}

function denial({ denied_response: denied }: CheckResponse__Output): Denial {
  const headers = (denied?.headers ?? []).map(({ header }) => [header?.key ?? '', header?.value ?? ''] as const);
  return {
    name: String(denied?.status?.code),
    ...(JSON.parse(denied?.body ?? '{}') as { code: string; detail: string }),
    headers: Object.fromEntries(headers),
  };
}

test.serial('an allowed request gets the identity for the shard and loses its token', async (t) => {
  const { check } = await setting(t);
  const { status, ok_response: ok } = await check({});
  t.is(status?.code ?? 0, 0);
  t.deepEqual(ok?.headers_to_remove, ['authorization']);
  t.deepEqual(
    ok?.headers?.map(({ header, append_action: action }) => [header?.key, header?.value, action]),
    [
      ['x-kura-caller', 'vision/trainer/p', 'OVERWRITE_IF_EXISTS_OR_ADD'],
      ['x-kura-terms', ok?.headers?.[1]?.header?.value, 'OVERWRITE_IF_EXISTS_OR_ADD'],
    ],
  );
  const [caller, terms] = (ok?.headers ?? []).map(({ header }) => header?.value ?? '') as [string, string];
  const read = readHeaders([createSecretKey(Buffer.from(credential))], { caller, terms });
  t.like(read, {
    kind: 'good',
    caller: { namespace: 'vision', serviceAccount: 'trainer', pod: 'p' },
    terms: { maxObjectBytes: 64 * 2 ** 30, maxShare: undefined, mayRedirect: true },
  });
});

test.serial('every denial has its status, code and headers, and costs no review when the token does not matter', async (t) => {
  const { check, api } = await setting(t);
  const authorization = `Bearer ${good}`;
  const cases: [Asked, string, string, Record<string, RegExp>?][] = [
    [{ headers: {} }, 'Unauthorized', 'unauthenticated', { 'www-authenticate': /^Bearer realm="kura"/ }],
    [{ headers: { authorization: '' } }, 'Unauthorized', 'unauthenticated'],
    [{ headers: { authorization: 'Basic YTpi' } }, 'Unauthorized', 'unauthenticated'],
    [{ headers: { authorization: `${authorization},${authorization}` } }, 'Unauthorized', 'unauthenticated'],
    [{ headers: { authorization: `Bearer ${'x'.repeat(8_193)}` } }, 'Unauthorized', 'unauthenticated'],
    [{ target: '/objects/' }, 'BadRequest', 'bad-key'],
    [{ target: '/objects/vision/../x' }, 'BadRequest', 'bad-key'],
    [{ target: `/objects/vision/${'x'.repeat(1_024)}` }, 'BadRequest', 'bad-key'],
    [{ target: '/metrics' }, 'NotFound', 'no-such-path'],
    [{ method: 'POST' }, 'MethodNotAllowed', 'method-not-allowed', { allow: /^GET, HEAD, PUT, DELETE$/ }],
  ];
  for (const [asked, name, code, headers = {}] of cases) {
    const denied = denial(await check(asked));
    t.is(denied.name, name, JSON.stringify(asked));
    t.is(denied.code, code);
    t.is(denied.headers['content-type'], 'application/problem+json');
    for (const [header, pattern] of Object.entries(headers)) t.regex(String(denied.headers[header]), pattern);
  }
  t.is(api.reviews, 0);
  const forbidden = denial(await check({ target: '/objects/nlp/x' }));
  t.is(forbidden.code, 'forbidden');
  t.is(forbidden.detail, 'the policy does not allow vision/trainer to GET nlp/x: it allows GET under vision/');
  t.is(denial(await check({ target: '/objects/visionary/x' })).code, 'forbidden');
  t.is(denial(await check({ method: 'PUT', headers: { authorization, 'content-length': String(2 ** 40) } })).name, 'PayloadTooLarge');
});

test.serial('PROPFIND gets 404 and MKCOL gets 201 from authz, and only with the right to HEAD and PUT the key', async (t) => {
  const { check } = await setting(t);
  const authorization = `Bearer ${good}`;
  const ask = async (method: string, target: string, headers: Record<string, string> = { authorization }) => {
    const { name, code } = denial(await check({ method, target, headers }));
    return `${name} ${code}`;
  };
  t.is(await ask('PROPFIND', '/objects/vision/sccache/'), 'NotFound no-folders');
  t.is(await ask('MKCOL', '/objects/vision/sccache/'), 'Created no-folders');
  for (const method of ['PROPFIND', 'MKCOL']) {
    t.is(await ask(method, '/objects/nlp/sccache/'), 'Forbidden forbidden');
    t.is(await ask(method, '/objects/vision/sccache/', {}), 'Unauthorized unauthenticated');
    t.is(await ask(method, '/objects/vision/../nlp/'), 'BadRequest bad-key');
    t.is(await ask(method, '/other/'), 'NotFound no-such-path');
  }
  t.is(await ask('hasOwnProperty', '/objects/vision/x'), 'MethodNotAllowed method-not-allowed');
});

test.serial('only a review with the audience, a ServiceAccount and a Pod allows a request', async (t) => {
  const { check, api } = await setting(t);
  const answers: Record<string, object> = {
    'not authenticated': { user: {}, error: '[invalid bearer token, service account token has expired]' },
    'authenticated is not true': { authenticated: 'true', audiences: ['kura'], user: user() },
    'no audiences: a token for the API itself': { authenticated: true, user: user() },
    'another audience': { authenticated: true, audiences: ['other'], user: user() },
    'a person': { authenticated: true, audiences: ['kura'], user: user({ username: 'admin' }) },
    'a name that is not one': {
      authenticated: true,
      audiences: ['kura'],
      user: user({ username: 'system:serviceaccount:vision:trainer:x' }),
    },
    'not in the group': { authenticated: true, audiences: ['kura'], user: user({ groups: ['system:masters'] }) },
    'bound to no Pod': { authenticated: true, audiences: ['kura'], user: user({ extra: {} }) },
  };
  for (const [what, status] of Object.entries(answers)) {
    api.review = (_token, response) => answer(response, status);
    const presented = token({ exp: Math.floor(Date.now() / 1000) + 3_600, what });
    t.is(denial(await check({ headers: { authorization: `Bearer ${presented}` } })).name, 'Unauthorized', what);
  }
});

test.serial('a failure of the API is 503 with Retry-After, is not cached, and is never a refusal', async (t) => {
  const { check, api } = await setting(t, { KURA_AUTHZ_REVIEW_DEADLINE: '200ms' });
  const troubles: Record<string, Review> = {
    silence: () => undefined,
    // Trouble behind the API looks like a revoked token, only later.
    'a slow refusal': (_token, response) => {
      setTimeout(() => answer(response, { user: {}, error: 'service account token has been invalidated' }), 300);
    },
    'a broken connection': (_token, response) => response.destroy(),
    'half an answer': (_token, response) => response.writeHead(201, { 'content-length': 100 }).write('{'),
    garbage: (_token, response) => response.writeHead(201, { 'content-type': 'application/json' }).end('<html>'),
    ...Object.fromEntries(
      [401, 403, 404, 429, 500, 503].map((code) => [
        String(code),
        (_token: string, response: ServerResponse) => response.writeHead(code).end('{}'),
      ]),
    ),
  };
  for (const [what, review] of Object.entries(troubles)) {
    api.review = review;
    const startedAt = performance.now();
    const denied = denial(await check({}));
    t.is(denied.name, 'ServiceUnavailable', what);
    t.is(denied.code, 'identity-unavailable');
    t.is(denied.headers['retry-after'], '1');
    t.true(performance.now() - startedAt < 1_000, what);
  }
  api.review = allow;
  await waitFor('the other one is known again', async () => (await check({})).ok_response);
});

test.serial('one review serves all concurrent requests, and later ones while its result is valid', async (t) => {
  const { check, api } = await setting(t, { KURA_AUTHZ_RESULT_AGE: '300ms' });
  await Promise.all(Array.from({ length: 50 }, () => check({})));
  t.is(api.reviews, 1);
  await check({});
  t.is(api.reviews, 1);
  await waitFor('the result is asked for again', async () => (await check({})) && api.reviews === 2);
});

test.serial('a refusal is cached for a short time, and ends a valid token', async (t) => {
  const { check, api } = await setting(t, { KURA_AUTHZ_RESULT_AGE: '0s' });
  t.truthy((await check({})).ok_response);
  api.review = (_token, response) => answer(response, { user: {}, error: 'gone' });
  t.is(denial(await check({})).name, 'Unauthorized');
  const { reviews } = api;
  t.is(denial(await check({})).name, 'Unauthorized');
  t.is(api.reviews, reviews);
});

test.serial('known tokens stay valid without the API for a limited time, and not beyond their own end', async (t) => {
  const { check, api } = await setting(t, {
    KURA_AUTHZ_RESULT_AGE: '0s',
    KURA_AUTHZ_WITHOUT_API: '6s',
    KURA_AUTHZ_REVIEW_DEADLINE: '100ms',
  });
  const ending = token({ exp: Math.floor(Date.now() / 1000) + 3 });
  const asked = { headers: { authorization: `Bearer ${ending}` } };
  // A busy machine may need more than the deadline of one review.
  await waitFor('both tokens are known', async () => (await check({})).ok_response && (await check(asked)).ok_response);
  api.review = () => undefined;
  t.truthy((await check({})).ok_response);
  await waitFor('the token that ended is 503', async () => (await check(asked)).denied_response);
  await waitFor('the other one is 503 after its time', async () => (await check({})).denied_response);
  t.is(denial(await check({})).name, 'ServiceUnavailable');
  api.review = allow;
  t.truthy((await check({})).ok_response);
});

test.serial('reviews above the limit get 503 immediately and do not pile up', async (t) => {
  const { check, api } = await setting(t, { KURA_AUTHZ_REVIEWS_IN_FLIGHT: '2', KURA_AUTHZ_REVIEW_DEADLINE: '300ms' });
  api.review = () => undefined;
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) => check({ headers: { authorization: `Bearer ${token({ index })}` } })),
  );
  t.true(answers.every((response) => denial(response).name === 'ServiceUnavailable'));
  t.true(api.reviews <= 2);
});

test.serial('a full cache is not an error', async (t) => {
  const { check, metrics } = await setting(t, { KURA_AUTHZ_CACHED_TOKENS: '1' });
  for (const index of [1, 2, 3])
    t.truthy((await check({ headers: { authorization: `Bearer ${token({ index, exp: 4e9 })}` } })).ok_response);
  const text = await metrics();
  t.regex(text, /kura_authz_checks_total\{decision="allow",reason="reviewed",namespace="vision"\} 3/);
  t.regex(text, /kura_authz_reviews_total\{result="identity"\} 3/);
});

test.serial('no part of a token is logged', async (t) => {
  const { check, api, authz } = await setting(t, { KURA_AUTHZ_LOG_LEVEL: 'trace' });
  await check({});
  api.review = (_token, response) => response.writeHead(500).end('{}');
  await check({ headers: { authorization: `Bearer ${token({ other: 1 })}` } });
  await authz.stop();
  for (const part of [...good.split('.').slice(1), ...token({ other: 1 }).split('.').slice(1), 'authz-own-token'])
    t.false(authz.output().includes(part));
});

test.serial('SIGTERM ends authz with status 0 and removes its socket', async (t) => {
  const { authz } = await setting(t);
  authz.child.kill('SIGTERM');
  const [status] = await once(authz.child, 'exit');
  t.is(status, 0);
});
