/** A refusal is the same with a gRPC content type as without it. Envoy alone would make it 200 with grpc-status. */
import test from 'ava';
import type { Decision } from '../../services/authz/decision.ts';
import { namedEntry, objectsManager } from '../../services/local/bootstrap.ts';
import { type Answer, type Call, call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { allow, forbidden, tokenOf } from './support/decisions.ts';
import { type Rig, startRig } from './support/rig.ts';

const contentTypes = ['application/grpc', 'application/grpc+proto'];
const identity = (forbidden as Extract<Decision, { kind: 'forbidden' }>).identity;

/** Each refusal of authz, with its status and code. */
const refusals: readonly (readonly [Decision, number, string])[] = [
  [{ kind: 'unauthenticated', reason: 'the token has "quotes", 100 %\n and ä' }, 401, 'unauthenticated'],
  [forbidden, 403, 'forbidden'],
  [{ kind: 'folder', answer: 'made', identity, rule: 'own', cached: true }, 201, 'no-folders'],
  [{ kind: 'folder', answer: 'absent', identity, rule: 'own', cached: true }, 404, 'no-folders'],
  [{ kind: 'no-such-path' }, 404, 'no-such-path'],
  [{ kind: 'bad-key' }, 400, 'bad-key'],
  [{ kind: 'bad-method', allowed: ['GET', 'PUT'] }, 405, 'method-not-allowed'],
  [{ kind: 'too-large', identity, maxObjectBytes: 5 }, 413, 'too-large'],
  [{ kind: 'too-many-requests', identity, excess: { limit: 'requestsPerSecond', perSecond: 5, waitSeconds: 2 } }, 429, 'too-many-requests'],
  [{ kind: 'unavailable', reason: 'away' }, 503, 'identity-unavailable'],
  [{ kind: 'no-policy' }, 503, 'policy-unavailable'],
];

test('each refusal of authz has the same status, headers and body, whatever the method', async (t) => {
  const rig = await startRig(t);
  for (const [decision, status, code] of refusals) {
    rig.decide = () => decision;
    for (const request of [{}, { method: 'PUT', body: 'x' }, { method: 'DELETE' }, { method: 'HEAD' }]) {
      const plain = await compare(rig, { path: '/objects/vision/x', ...request }, (same, detail) => t.true(same, `${code}: ${detail}`));
      t.is(plain.status, status, code);
      if (request.method !== 'HEAD') t.like(JSON.parse(plain.body.toString()), { status, code });
    }
  }
});

test('each refusal of Envoy has the same status, headers and body', async (t) => {
  const rig = await startRig(t);
  const refused = async (request: Call, status: number, code: string): Promise<void> => {
    const plain = await compare(rig, request, (same, detail) => t.true(same, `${request.path}: ${detail}`));
    t.is(plain.status, status, request.path);
    t.is(JSON.parse(plain.body.toString()).code, code, request.path);
  };
  rig.decide = () => allow(undefined);
  await refused({ path: '/objects/vision/a%2Fb' }, 400, 'bad-request');
  await refused({ path: '/objects/vision/a%00b', method: 'PUT', body: 'x' }, 400, 'bad-request');
  await refused({ path: '/objects/vision/%zz' }, 400, 'bad-request');
  await refused({ path: '/other' }, 404, 'no-such-path');
  await rig.recorder.close();
  await refused({ path: '/objects/vision/x' }, 503, 'shard-unavailable');
  await refused({ path: '/objects/vision/x', method: 'PUT', body: 'x' }, 503, 'shard-unavailable');
});

test('an authz that does not answer is the same 503', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      const endpoint = ['load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address', 'pipe', 'path'];
      namedEntry(bootstrap, ['static_resources', 'clusters'], 'authz').setIn(endpoint, '/nowhere/authz.sock');
    },
  });
  const plain = await compare(rig, { path: '/objects/vision/x' }, (same, detail) => t.true(same, detail));
  t.is(plain.status, 503);
  t.is(JSON.parse(plain.body.toString()).code, 'authorization-unavailable');
});

test('a response of the shard passes unchanged', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(undefined);
  rig.recorder.answer = Buffer.from('{"status":404,"code":"no-such-object"}\n');
  for (const method of ['GET', 'PUT', 'HEAD']) {
    const plain = await compare(rig, { path: '/objects/vision/x', method }, (same, detail) => t.true(same, detail));
    t.is(plain.status, 404);
    t.is(plain.body.toString(), method === 'HEAD' ? '' : rig.recorder.answer.toString());
  }
});

test('a connection that floods gets 429, and the access log has the statuses that clients get', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      const limit = namedEntry(objectsManager(bootstrap), ['http_filters'], 'envoy.filters.http.local_ratelimit');
      limit.setIn(['typed_config', 'token_bucket', 'max_tokens'], 50);
      limit.setIn(['typed_config', 'token_bucket', 'tokens_per_fill'], 1);
      const logger = namedEntry(objectsManager(bootstrap), ['access_log'], 'envoy.access_loggers.stdout');
      const filters = ['filter', 'or_filter', 'filters'];
      logger.setIn([...filters, 0, 'runtime_filter', 'percent_sampled', 'numerator'], 0);
      logger.setIn([...filters, 3, 'and_filter', 'filters', 1, 'runtime_filter', 'percent_sampled', 'numerator'], 100);
    },
  });
  rig.decide = () => forbidden;
  const headers = { 'content-type': 'application/grpc' };
  t.is(await rig.call({ headers }), 403);
  await waitFor('the line', () => rig.accessLog().find(({ status }) => status === 403));
  await waitFor('429', async () => (await rig.call({ headers })) === 429, { everyMs: 0 });
});

test('an exhausted heap is the exception: Envoy then creates no filter, and the code is in grpc-message', async (t) => {
  const heap = ['overload_manager', 'resource_monitors', 1, 'typed_config', 'max_heap_size_bytes'];
  const rig = await startRig(t, { edit: (bootstrap) => bootstrap.setIn(heap, 1) });
  const headers = { 'content-type': 'application/grpc' };
  const answer = await waitFor('Envoy has looked at its heap', async () => {
    const found = await call(`http://127.0.0.1:${rig.port}`, { path: '/objects/vision/x', token: tokenOf('a'), headers });
    return String(found.headers['grpc-message']).includes('"overloaded"') && found;
  });
  t.like(answer.headers, { 'grpc-status': '14', 'retry-after': '1' });
});

/** Sends a request without and with each gRPC content type, and reports whether the responses are equal. Returns the one without. */
async function compare(rig: Rig, request: Call, report: (same: boolean, detail: string) => void): Promise<Answer> {
  const url = `http://127.0.0.1:${rig.port}`;
  const plain = await call(url, { token: tokenOf('a'), ...request });
  for (const type of contentTypes) {
    const grpc = await call(url, { token: tokenOf('a'), ...request, headers: { ...request.headers, 'content-type': type } });
    const [expected, found] = [plain, grpc].map((answer) => comparable(answer, request.method));
    report(found === expected, `${request.method} with ${type}: ${found} instead of ${expected}`);
  }
  return plain;
}

/** Envoy does not know the length of the body that HEAD leaves out. */
function comparable({ status, headers, body }: Answer, method: string | undefined): string {
  const left = new Set(['date', ...(method === 'HEAD' ? ['content-length', 'transfer-encoding'] : [])]);
  const kept = Object.entries(headers).filter(([name]) => !left.has(name));
  return JSON.stringify([status, Object.fromEntries(kept.sort()), body.toString()]);
}
