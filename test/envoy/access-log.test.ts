/** What the operators' bootstrap writes of requests, and what it tells authz of them. */
import test from 'ava';
import type { Document } from 'yaml';
import { namedEntry, objectsManager } from '../../services/local/bootstrap.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { allow, forbidden, grant, headersOf, nameIn, tokenOf } from './support/decisions.ts';
import { startRig } from './support/rig.ts';

const secret = 'Bearer eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl';
const [sample, refusals] = [
  ['filter', 'or_filter', 'filters', 0, 'runtime_filter', 'percent_sampled', 'numerator'],
  ['filter', 'or_filter', 'filters', 3, 'and_filter', 'filters', 1, 'runtime_filter', 'percent_sampled', 'numerator'],
];

/** Changes the shares of all requests and of the refusals that are logged. */
function logging(shares: { of: number; ofRefusals?: number }): (bootstrap: Document) => void {
  return (bootstrap) => {
    const logger = namedEntry(objectsManager(bootstrap), ['access_log'], 'envoy.access_loggers.stdout');
    if (logger.getIn(sample) !== 1 || logger.getIn(refusals) !== 10) throw new Error('the access log has other shares');
    logger.setIn(sample, shares.of);
    if (shares.ofRefusals !== undefined) logger.setIn(refusals, shares.ofRefusals);
  };
}

test('a logged refusal is a line with how long and why, without key and token; misses and 401 are none but for a sample', async (t) => {
  const rig = await startRig(t, { edit: logging({ of: 0, ofRefusals: 100 }) });
  rig.decide = () => allow(undefined);
  t.is(await rig.call({ key: 'vision/allowed', authorization: secret }), 404);
  rig.decide = () => ({ kind: 'unauthenticated', reason: 'no' });
  t.is(await rig.call({ authorization: secret }), 401);
  rig.decide = () => forbidden;
  t.is(
    await rig.call({
      key: 'vision/of-somebody-else',
      authorization: secret,
      method: 'PUT',
      headers: { 'x-kura-caller': 'forged/forged/-', 'x-kura-terms': 'forged' },
    }),
    403,
  );
  const refused = await waitFor('the line', () => rig.accessLog().find(({ status }) => status === 403));
  t.like(refused, { service: 'envoy', method: 'PUT', caller: null, shard: null, cache: null, flags: 'UAEX' });
  t.is(Number(refused.path_bytes), '/objects/vision/of-somebody-else'.length);
  t.is(typeof refused.duration_ms, 'number');
  const written = JSON.stringify(rig.accessLog());
  t.false(written.includes('somebody') || written.includes('eyJ') || written.includes('forged'));
  // The rig's own start has 503s.
  t.deepEqual(new Set(rig.accessLog().map(({ status }) => status)), new Set([503, 403]));
});

test('a sampled line names the identity, the shard’s address and whether a grant let it in', async (t) => {
  const rig = await startRig(t, { edit: logging({ of: 100 }) });
  rig.decide = () => allow(grant());
  for (let round = 0; round < 2; round++) t.is(await rig.call({ method: 'PUT', authorization: secret, bodyMs: 1 }), 404);
  const lines = await waitFor('two lines', () => {
    const found = rig.accessLog().filter(({ status }) => status === 404);
    return found.length === 2 && found;
  });
  for (const line of lines) {
    t.like(line, { caller: 'vision/trainer/-', tries: 1, bytes_received: 2, flags: '-' });
    t.is(line.upstream, `127.0.0.1:${rig.recorder.port}`);
  }
  // Envoy rejects this before it removes the headers of the client.
  const headers = { 'x-kura-caller': 'forged/forged/-' };
  t.is(await rig.call({ method: 'PUT', key: 'vision/a%2Fb', authorization: secret, headers }), 400);
  t.is((await waitFor('the line', () => rig.accessLog().find(({ status }) => status === 400))).caller, null);
  t.false(JSON.stringify(rig.accessLog()).includes('sig='), 'terms are never logged');
  t.deepEqual(
    lines.map((line) => typeof line.check),
    ['number', 'object'],
  );
});

test('each PUT and DELETE that authz or a grant allows is a line with its caller, and no other request is one', async (t) => {
  const rig = await startRig(t, { edit: logging({ of: 0, ofRefusals: 0 }) });
  const callers = ['vision/trainer/trainer-0', 'vision/eval/-'];
  rig.decide = ({ token }) =>
    allow(grant(headersOf({ serviceAccount: nameIn(token), ...(nameIn(token) === 'eval' ? {} : { pod: 'trainer-0' }) })));
  for (const token of ['trainer', 'eval'])
    for (const method of ['GET', 'PUT', 'DELETE', 'HEAD', 'PUT', 'DELETE']) t.is(await rig.call({ method, token }), 404);
  const url = `http://127.0.0.1:${rig.port}`;
  const forged = { 'x-kura-caller': 'forged/forged/-' };
  const put = { method: 'PUT', headers: forged };
  t.is((await call(url, { ...put, path: '/objects/vision/x' })).status, 401);
  t.is((await call(url, { ...put, path: '/objects/vision/a%2Fb', token: tokenOf('a') })).status, 400);
  t.is((await call(url, { ...put, path: '/objects/vision/%zz', token: tokenOf('a') })).status, 400);
  rig.decide = () => forbidden;
  t.is((await call(url, { ...put, path: '/objects/vision/x', token: tokenOf('a') })).status, 403);
  rig.decide = () => allow(undefined);
  t.is(await rig.call({ method: 'DELETE', token: 'last' }), 404);
  const lines = () => rig.accessLog().filter(({ status }) => status !== 503);
  await waitFor('the last line', () => lines().at(-1)?.caller === 'vision/trainer/-');
  t.deepEqual(
    lines().map(({ method, caller }) => `${method} ${caller}`),
    [...callers.flatMap((caller) => ['PUT', 'DELETE', 'PUT', 'DELETE'].map((method) => `${method} ${caller}`)), 'DELETE vision/trainer/-'],
  );
});

test('a flood of refusals is not a flood of lines', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => forbidden;
  for (let round = 0; round < 600; round++) t.is(await rig.call({}), 403);
  rig.decide = () => allow(undefined);
  await rig.call({ method: 'DELETE' });
  await waitFor('the last line', () => rig.accessLog().some(({ method }) => method === 'DELETE'));
  const lines = rig.accessLog().filter(({ status }) => status === 403).length;
  // One in ten: less than 1 in 10^20 floods have another number.
  t.true(lines > 0 && lines < 180, `${lines} lines`);
});

test('authz is told the bytes of the namespaces that it counts, of bodies in both directions, and of no others', async (t) => {
  const rig = await startRig(t);
  rig.recorder.answer = Buffer.from('three');
  rig.decide = ({ token }) =>
    allow(undefined, {
      ...headersOf({ namespace: nameIn(token), mayRedirect: nameIn(token) !== 'counted' }),
      countsBytes: nameIn(token) === 'counted',
    });
  for (const token of ['counted', 'other', 'counted']) {
    t.is(await rig.call({ method: 'PUT', token, bodyMs: 1 }), 404);
    t.is(await rig.call({ token }), 404);
  }
  await waitFor('all transfers are told', () => rig.transferred.get('counted') === 2 * (2 + 5 + 5));
  t.deepEqual([...rig.transferred.keys()], ['counted']);
  // What goes straight to a shard is not told: so a shard may send nothing of theirs there.
  t.deepEqual(
    rig.recorder.requests.map(({ headers }) => String(headers['x-kura-terms']).includes('; direct=no; ')),
    [true, true, false, false, true, true],
  );
});
