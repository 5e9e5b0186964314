/** envoy/grants.lua in the real Envoy, with the operators' bootstrap and authz's own form of an answer. The shard has nothing: what is let in is a 404. */
import { on } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import test from 'ava';
import { verbs } from '../../services/authz/policy/document.ts';
import { waitFor } from '../support/wait.ts';
import { allow, everywhere, forbidden, grant, headersOf } from './support/decisions.ts';
import { startRig } from './support/rig.ts';

test('authz is asked once for as long as its grant holds, and again after', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant({ seconds: 3 }));
  const startedAt = performance.now();
  for (const method of verbs)
    for (let index = 0; index < 5; index++) t.is(await rig.call({ method, key: `vision/${index}`, authorization: 'Bearer a' }), 404);
  // A machine that took so long for twenty requests has not shown anything.
  if (performance.now() - startedAt < 3_000) t.is(rig.asked.length, 1);
  await waitFor('authz is asked again', async () => {
    await rig.call({ authorization: 'Bearer a' });
    return rig.asked.length > 1;
  });
  t.true(performance.now() - startedAt >= 3_000);
});

test('a grant and a full check give the shard the same headers, and never the token', async (t) => {
  const rig = await startRig(t);
  rig.decide = () =>
    allow(grant({ ...headersOf({ namespace: 'nlp', serviceAccount: 'eval', pod: 'p', maxShare: 0.25 }), allowed: everywhere(['']) }));
  const headers = { 'x-kura-caller': 'forged/forged/-', 'x-kura-terms': 'max-object-bytes=1; max-share=1; exp=1', 'x-kura-other': 'x' };
  for (let round = 0; round < 3; round++) await rig.call({ authorization: 'Bearer secret', headers });
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
  for (const prefix of ['/objects/', '/direct/', '/direct/']) t.is(await rig.call({ prefix, authorization: 'Bearer a', headers }), 404);
  t.is(rig.asked.length, 1);
  t.deepEqual(
    rig.recorder.requests.map(({ url }) => url),
    ['/objects/vision/x', '/direct/vision/x', '/direct/vision/x'],
  );
  // Who speaks plain HTTP to Envoy cannot say otherwise: a shard sends elsewhere by it.
  t.deepEqual([...new Set(rig.recorder.requests.map((each) => each.headers['x-forwarded-proto']))], ['http']);
  rig.decide = () => forbidden;
  t.is(await rig.call({ prefix: '/direct/', key: 'nlp/x', authorization: 'Bearer a' }), 403);
  t.is(await rig.call({ prefix: '/direct/', key: 'vision/', authorization: 'Bearer b' }), 403);
  for (const prefix of ['/ticket/', '/direct', '/other/']) {
    await rig.call({ prefix, authorization: 'Bearer a' });
    t.false(
      rig.recorder.requests.some(({ url }) => url.startsWith(prefix) && !url.startsWith('/direct/')),
      prefix,
    );
  }
});

test('what the grant does not clearly allow goes to authz', async (t) => {
  const rig = await startRig(t);
  rig.decide = ({ target }) => (target === '/objects/vision/first' ? allow(grant({ denied: everywhere(['vision/secret/']) })) : forbidden);
  t.is(await rig.call({ key: 'vision/first', authorization: 'Bearer a' }), 404);
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
    t.is(await rig.call({ ...request, authorization: 'Bearer a' }), status, JSON.stringify(request));
    t.is(rig.asked.length, before + 1, JSON.stringify(request));
  }
  const before = rig.asked.length;
  t.is(await rig.call({ key: 'vision/secret', authorization: 'Bearer a' }), 404);
  t.is(rig.asked.length, before, 'a denied prefix is matched with its slash');
});

test('a verb is granted by itself', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant({ allowed: { GET: ['vision/'], HEAD: [], PUT: [], DELETE: [] } }));
  await rig.call({ authorization: 'Bearer a' });
  await rig.call({ authorization: 'Bearer a' });
  t.is(rig.asked.length, 1);
  await rig.call({ method: 'DELETE', authorization: 'Bearer a' });
  t.deepEqual(
    rig.asked.map(({ method }) => method),
    ['GET', 'DELETE'],
  );
});

test('two tokens never share a grant', async (t) => {
  const rig = await startRig(t);
  rig.decide = ({ token }) => allow(grant(headersOf({ serviceAccount: String(token) })));
  for (let round = 0; round < 3; round++) for (const token of ['a', 'b', 'aa', 'A']) await rig.call({ authorization: `Bearer ${token}` });
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
    for (let round = 0; round < 3; round++) t.is(await rig.call({ authorization: 'Bearer a' }), status);
    t.is(rig.asked.length, before + 3);
  }
});

test('no Authorization, an empty one, two of them and one over 8 KiB go to authz each time', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant());
  await rig.call({ authorization: 'Bearer a' });
  for (const authorization of [undefined, '', ['Bearer a', 'Bearer a'], ['Bearer a', 'Bearer b'], `Bearer ${'a'.repeat(8_200)}`]) {
    const before = rig.asked.length;
    for (let round = 0; round < 2; round++) await rig.call(authorization === undefined ? {} : { authorization });
    t.is(rig.asked.length, before + 2, String(authorization).slice(0, 40));
  }
});

test('a grant counts from when it was asked for, not from the end of a long upload', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant({ seconds: 1 }));
  await rig.call({ method: 'PUT', headers: { 'content-length': '2' }, bodyMs: 1_200, authorization: 'Bearer a' });
  await rig.call({ authorization: 'Bearer a' });
  t.is(rig.asked.length, 2);
});

test('100,000 tokens do not grow memory, and the newest are known', async (t) => {
  t.timeout(300_000);
  const rig = await startRig(t);
  const head = (authorization: string): string => `GET /objects/vision/x HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\n\r\n`;
  const given = allow(grant());
  rig.decide = () => given;
  const token = (index: number): string => `Bearer ${String(index).padStart(1_000, 'x')}`;
  const flood = async (from: number, to: number): Promise<void> => {
    const connections = 20;
    const share = (to - from) / connections;
    const requests = (index: number): string[] => Array.from({ length: share }, (_, own) => head(token(from + index * share + own)));
    await Promise.all(Array.from({ length: connections }, (_, index) => pipeline(rig.port, requests(index))));
    t.is(rig.asked.length, to - from);
    rig.asked.length = 0;
    rig.recorder.requests.length = 0;
  };
  const resident = (): number => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${rig.pid}/status`, 'utf8'))?.[1]) / 1024;
  // Both generations are full once. A kept token and its grant take some 2.5 KB: 75,000 of them would be 190 MB.
  await flood(0, 25_000);
  const before = resident();
  await flood(25_000, 100_000);
  const grown = resident() - before;
  t.log(`${before.toFixed(0)} MiB, and ${grown.toFixed(0)} more after 75,000 others`);
  t.true(grown < 100, `${grown} MiB`);
  await rig.call({ authorization: token(99_999) });
  t.is(rig.asked.length, 0);
  await rig.call({ authorization: token(0) });
  t.is(rig.asked.length, 1);
});

/** Sends GETs whose answers have no body over one connection, many at a time: one by one Node's own client would take most of a test's time. */
async function pipeline(port: number, requests: readonly string[]): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  const answers = on(socket, 'data')[Symbol.asyncIterator]();
  const atATime = 64;
  let rest = '';
  for (let first = 0; first < requests.length; first += atATime) {
    const batch = requests.slice(first, first + atATime);
    socket.write(batch.join(''));
    for (let left = batch.length; left > 0; ) {
      const heads = `${rest}${(await answers.next()).value}`.split('\r\n\r\n');
      rest = heads.pop() ?? '';
      left -= heads.length;
    }
  }
  socket.destroy();
}
