/** envoy/grants.lua in the real Envoy, with the operators' bootstrap and authz's own form of an answer. The shard has nothing: what is let in is a 404. */
import test from 'ava';
import { methods } from '../../services/authz/policy/document.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { allow, everywhere, forbidden, grant, headersOf, nameIn, tokenOf } from './support/decisions.ts';
import { startRig } from './support/rig.ts';

test('authz is asked once for as long as its grant holds, and again after', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant({ seconds: 3 }));
  const startedAt = performance.now();
  for (const method of methods)
    for (let index = 0; index < 5; index++) t.is(await rig.call({ method, key: `vision/${index}`, token: 'a' }), 404);
  // A machine that took so long for twenty requests has not shown anything.
  if (performance.now() - startedAt < 3_000) t.is(rig.asked.length, 1);
  await waitFor('authz is asked again', async () => {
    await rig.call({ token: 'a' });
    return rig.asked.length > 1;
  });
  t.true(performance.now() - startedAt >= 3_000);
});

test('a grant and a full check give the shard the same headers, and never the token', async (t) => {
  const rig = await startRig(t);
  rig.decide = () =>
    allow(grant({ ...headersOf({ namespace: 'nlp', serviceAccount: 'eval', pod: 'p', maxShare: 0.25 }), allowed: everywhere(['']) }));
  const headers = { 'x-kura-caller': 'forged/forged/-', 'x-kura-terms': 'max-object-bytes=1; max-share=1; exp=1', 'x-kura-other': 'x' };
  for (let round = 0; round < 3; round++) await rig.call({ token: 'secret', headers });
  t.is(rig.asked.length, 1);
  const [checked, ...granted] = rig.recorder.requests.map((each) => each.headers);
  t.is(checked?.['x-kura-caller'], 'nlp/eval/p');
  t.regex(String(checked?.['x-kura-terms']), /^max-object-bytes=1000000; max-share=0\.25; exp=\d+; sig=[\w-]{43}$/);
  t.is(granted.length, 2);
  for (const each of granted) t.deepEqual(each, checked);
  t.is(checked?.authorization, undefined);
  t.is(checked?.['x-kura-other'], undefined);
});

test('a grant holds under /direct/ as under /objects/, and nowhere else', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant());
  const headers = { 'x-forwarded-proto': 'https' };
  for (const prefix of ['/objects/', '/direct/', '/direct/']) t.is(await rig.call({ prefix, token: 'a', headers }), 404);
  t.is(rig.asked.length, 1);
  t.deepEqual(
    rig.recorder.requests.map(({ url }) => url),
    ['/objects/vision/x', '/direct/vision/x', '/direct/vision/x'],
  );
  // Who speaks plain HTTP to Envoy cannot say otherwise: a shard sends elsewhere by it.
  t.deepEqual([...new Set(rig.recorder.requests.map((each) => each.headers['x-forwarded-proto']))], ['http']);
  rig.decide = () => forbidden;
  t.is(await rig.call({ prefix: '/direct/', key: 'nlp/x', token: 'a' }), 403);
  t.is(await rig.call({ prefix: '/direct/', key: 'vision/', token: 'b' }), 403);
  for (const prefix of ['/ticket/', '/direct', '/other/']) {
    await rig.call({ prefix, token: 'a' });
    t.false(
      rig.recorder.requests.some(({ url }) => url.startsWith(prefix) && !url.startsWith('/direct/')),
      prefix,
    );
  }
});

test('what the grant does not clearly allow goes to authz', async (t) => {
  const rig = await startRig(t);
  rig.decide = ({ target }) => (target === '/objects/vision/first' ? allow(grant({ denied: everywhere(['vision/secret/']) })) : forbidden);
  t.is(await rig.call({ key: 'vision/first', token: 'a' }), 404);
  for (const [request, status] of [
    [{ key: 'nlp/x' }, 403],
    [{ key: 'visionary/x' }, 403],
    [{ key: 'vision' }, 403],
    [{ key: 'vision/secret/x' }, 403],
    [{ key: 'vision/x?a=/../b' }, 403],
    [{ key: `vision/${'k'.repeat(1100)}` }, 403],
    [{ method: 'POST' }, 403],
    [{ method: 'PUT', headers: { 'content-length': '1000001' } }, 403],
  ] as const) {
    const before = rig.asked.length;
    t.is(await rig.call({ ...request, token: 'a' }), status, JSON.stringify(request));
    t.is(rig.asked.length, before + 1, JSON.stringify(request));
  }
  const before = rig.asked.length;
  t.is(await rig.call({ key: 'vision/secret', token: 'a' }), 404);
  t.is(rig.asked.length, before, 'a denied prefix is matched with its slash');
});

test('a verb is granted by itself', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant({ allowed: { GET: ['vision/'], HEAD: [], PUT: [], DELETE: [] } }));
  await rig.call({ token: 'a' });
  await rig.call({ token: 'a' });
  t.is(rig.asked.length, 1);
  await rig.call({ method: 'DELETE', token: 'a' });
  t.deepEqual(
    rig.asked.map(({ method }) => method),
    ['GET', 'DELETE'],
  );
});

test('two tokens never share a grant', async (t) => {
  const rig = await startRig(t);
  rig.decide = ({ token }) => allow(grant(headersOf({ serviceAccount: nameIn(token) })));
  for (let round = 0; round < 3; round++) for (const token of ['a', 'b', 'aa', 'A']) await rig.call({ token });
  t.is(rig.asked.length, 4);
  t.deepEqual(
    rig.recorder.requests.map(({ headers }) => headers['x-kura-caller']),
    Array.from({ length: 3 }, () => ['vision/a/-', 'vision/b/-', 'vision/aa/-', 'vision/A/-']).flat(),
  );
});

test('a denial, an unavailable authz and an allow without a grant are never kept', async (t) => {
  const rig = await startRig(t);
  for (const [decision, status] of [
    [forbidden, 403],
    [{ kind: 'unauthenticated', reason: 'no' }, 401],
    [{ kind: 'unavailable', reason: 'away' }, 503],
    [allow(undefined), 404],
  ] as const) {
    rig.decide = () => decision;
    const before = rig.asked.length;
    for (let round = 0; round < 3; round++) t.is(await rig.call({ token: 'a' }), status);
    t.is(rig.asked.length, before + 3);
  }
});

/** Nothing in these values can be a token; `authorization` null is none. */
const impossible: Readonly<Record<string, { readonly authorization: string | readonly string[] | null; readonly reason: RegExp }>> = {
  none: { authorization: null, reason: /exactly one Authorization header/ },
  empty: { authorization: '', reason: /exactly one Authorization header/ },
  'two lines': { authorization: [`Bearer ${tokenOf('a')}`, `Bearer ${tokenOf('a')}`], reason: /one token of three parts/ },
  'another scheme': { authorization: 'Basic YTpi', reason: /one token of three parts/ },
  'another case': { authorization: `bearer ${tokenOf('a')}`, reason: /one token of three parts/ },
  'two spaces': { authorization: `Bearer  ${tokenOf('a')}`, reason: /one token of three parts/ },
  'a tab': { authorization: `Bearer\t${tokenOf('a')}`, reason: /one token of three parts/ },
  'no space': { authorization: `Bearer${tokenOf('a')}`, reason: /one token of three parts/ },
  'one part': { authorization: 'Bearer junk', reason: /one token of three parts/ },
  'four parts': { authorization: 'Bearer a.b.c.d', reason: /one token of three parts/ },
  'no signature': { authorization: 'Bearer a.b.', reason: /one token of three parts/ },
  padding: { authorization: 'Bearer a.b.c=', reason: /one token of three parts/ },
  'other letters': { authorization: 'Bearer a.b.c+/~', reason: /one token of three parts/ },
  '4,097 bytes': { authorization: `Bearer ${tokenOf('a'.repeat(4_097 - 13))}`, reason: /longer than 4096 bytes/ },
};

test('an Authorization that cannot be a token is the 401 of authz without a call to authz, and ends its connection', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant());
  t.is(await rig.call({ authorization: `Bearer ${tokenOf('a'.repeat(4_096 - 13))}` }), 404, 'the longest');
  t.is(rig.asked.length, 1);
  for (const [name, { authorization, reason }] of Object.entries(impossible)) {
    for (const request of [{}, { method: 'PUT', body: 'x' }, { path: '/other' }, { headers: { 'content-type': 'application/grpc' } }]) {
      const headers = {
        connection: 'keep-alive',
        ...request.headers,
        ...(authorization === null ? {} : { authorization: authorization as string }),
      };
      const answer = await call(`http://127.0.0.1:${rig.port}`, { path: '/objects/vision/x', ...request, headers });
      t.is(answer.status, 401, name);
      t.like(answer.headers, {
        'content-type': 'application/problem+json',
        'www-authenticate': 'Bearer realm="kura", error="invalid_token"',
        connection: 'close',
      });
      const { detail, ...problem } = JSON.parse(answer.body.toString());
      t.deepEqual(problem, { status: 401, code: 'unauthenticated' }, name);
      t.regex(detail, reason, name);
    }
  }
  t.is(rig.asked.length, 1);
  t.is(rig.recorder.requests.length, 1);
  // A 401 of authz keeps its connection: the client reads its token file and repeats the request.
  rig.decide = () => ({ kind: 'unauthenticated', reason: 'no' });
  const answer = await call(`http://127.0.0.1:${rig.port}`, {
    path: '/objects/vision/x',
    token: tokenOf('b'),
    headers: { connection: 'keep-alive' },
  });
  t.is(answer.status, 401);
  t.not(answer.headers.connection, 'close');
});

test('a grant counts from when it was asked for, not from the end of a long upload', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant({ seconds: 1 }));
  await rig.call({ method: 'PUT', headers: { 'content-length': '2' }, bodyMs: 1_200, token: 'a' });
  await rig.call({ token: 'a' });
  t.is(rig.asked.length, 2);
});
