import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { Agent, type OutgoingHttpHeaders, request } from 'node:http';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CallerSigner } from '../../../services/authz/caller-signer.ts';
import { Callers } from '../../../services/cache/http/callers.ts';
import { type CallerHeaders, callerHeaders } from '../../support/caller.ts';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { startCacheProcess } from '../support/process.ts';
import { metric, startTestShard, temporaryDirectory } from '../support/shard.ts';

const first = 'first-credential-0123456789';
const second = 'second-credential-0123456789';

async function withFile(t: ExecutionContext, text: string) {
  const file = path.join(await temporaryDirectory(t), 'credential');
  await writeFile(file, text);
  return { file, shard: await startTestShard(t, { environment: { KURA_CACHE_CREDENTIAL_FILE: file } }) };
}

const headers = (credential: string) => ({ ...callerHeaders({ credential }) });
const inSeconds = (seconds: number) => Math.ceil(Date.now() / 1000) + seconds;

test('without a signed caller nothing is read or written, on both parsers; health needs no caller', async (t) => {
  const { shard } = await withFile(t, `${first}\n`);
  const requests = [
    { path: '/objects/a' },
    { path: '/objects/a', method: 'HEAD' },
    { path: '/objects/a', method: 'DELETE' },
    { path: '/objects/a', method: 'PUT', body: 'x', headers: { 'content-length': 1 } },
    { path: '/objects/a', method: 'PUT', body: 'x', headers: { 'transfer-encoding': 'chunked' } },
    { path: '/objects/a', method: 'PUT', body: Buffer.alloc(3_000_000), headers: { 'content-length': 3_000_000 } },
    { path: '/objects/a', method: 'PUT', body: 'x', expect: true },
    { path: '/other' },
  ];
  const { 'x-kura-caller': caller, 'x-kura-terms': terms } = callerHeaders({ credential: first });
  const bad = [
    ['missing', {}],
    ['missing', { 'x-kura-caller': caller }],
    ['missing', { 'x-kura-terms': terms }],
    ['malformed', callerHeaders()],
    ['malformed', { 'x-kura-caller': caller, 'x-kura-terms': '' }],
    ['forged', headers('wrong-credential-0123456789')],
    ['forged', headers(first.slice(0, -1))],
    ['forged', headers(`${first}x`)],
    ['forged', { 'x-kura-caller': caller, 'x-kura-terms': `${terms}, ${terms}` }],
    ['forged', { 'x-kura-caller': [caller, caller], 'x-kura-terms': terms }],
    ['forged', { 'x-kura-caller': caller, 'x-kura-terms': [terms, terms] }],
    ['expired', callerHeaders({ credential: first, expiresAtSeconds: inSeconds(-2) })],
  ] as const;
  for (const [reason, headers] of bad) {
    for (const each of requests) {
      const counted = () => metric(shard, 'kura_cache_bad_callers_total', `reason="${reason}"`);
      const before = await counted();
      const answer = await call(shard.url, { ...each, headers: { ...each.headers, ...headers } as OutgoingHttpHeaders });
      t.is(answer.status, 401, JSON.stringify([headers, each.method, each.path]));
      if (each.method !== 'HEAD') t.is(JSON.parse(answer.body.toString()).code, 'bad-caller');
      t.false(answer.bodySent && each.expect === true);
      t.is(await counted(), before + 1, reason);
    }
  }
  t.is(await metric(shard, 'kura_cache_objects'), 0);
  t.is(await metric(shard, 'kura_cache_bad_callers_total'), bad.length * requests.length);
  t.is((await call(shard.url, { path: '/healthz' })).status, 200);
  t.is((await call(shard.url, { method: 'PUT', path: '/objects/a', body: 'x', headers: headers(first) })).status, 201);
  t.is((await call(shard.url, { path: '/objects/a', headers: headers(first) })).body.toString(), 'x');
  t.is(
    (await call(shard.url, { method: 'PUT', path: '/objects/b', body: 'x', headers: { ...headers(first), 'content-length': 1 } })).status,
    201,
  );
});

test('a rotation with two valid keys rejects no request, also on open connections', async (t) => {
  const { file, shard } = await withFile(t, first);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const ask = (credential: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const outgoing = request(`${shard.url}/objects/a`, { agent, headers: headers(credential) }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode as number));
      });
      outgoing.on('error', reject).end();
    });
  t.deepEqual([await ask(first), await ask(second)], [404, 401]);
  await writeFile(file, `${second}\n${first}\n`);
  await waitFor('the new key is accepted', async () => (await ask(second)) === 404);
  t.is(await ask(first), 404);
  await writeFile(`${file}.new`, second);
  await rename(`${file}.new`, file);
  await waitFor('the old key is rejected', async () => (await ask(first)) === 401);
  t.is(await ask(second), 404);
});

test('a swap of the links of a Secret is followed; an invalid or missing file changes nothing', async (t) => {
  const folder = await temporaryDirectory(t);
  for (const [name, text] of [
    ['v1', first],
    ['v2', second],
    ['v3', 'short'],
  ] as const) {
    await mkdir(path.join(folder, name));
    await writeFile(path.join(folder, name, 'credential'), text);
  }
  const swap = async (name: string): Promise<void> => {
    await symlink(name, path.join(folder, 'next'));
    await rename(path.join(folder, 'next'), path.join(folder, '..data'));
  };
  await swap('v1');
  const file = path.join(folder, 'credential');
  await symlink('..data/credential', file);
  const shard = await startCacheProcess(t, { KURA_CACHE_DIRECTORY: path.join(folder, 'shard'), KURA_CACHE_CREDENTIAL_FILE: file });
  const url = `http://${shard.listening.objects}`;
  const status = async (credential: string): Promise<number> =>
    (await call(url, { path: '/objects/a', headers: headers(credential) })).status;
  t.is(await status(first), 404);
  await swap('v2');
  await waitFor('the second key is accepted', async () => (await status(second)) === 404);
  await swap('v3');
  await waitFor('the invalid file is logged', () => shard.output().includes('a credential is not 16 to 1,024 bytes'));
  await rm(file);
  await waitFor('the missing file is logged', () => shard.output().includes('ENOENT'));
  t.deepEqual([await status(second), await status(first), await status('short')], [404, 401, 401]);
});

test('a shard does not start without the setting, or with an invalid file', async (t) => {
  const folder = await temporaryDirectory(t);
  const file = path.join(folder, 'credential');
  const start = (environment: Record<string, string>) =>
    t.throwsAsync(startCacheProcess(t, { KURA_CACHE_DIRECTORY: path.join(folder, 'shard'), ...environment }));
  t.regex((await start({ KURA_CACHE_CREDENTIAL_FILE: '' }))?.message ?? '', /KURA_CACHE_CREDENTIAL_FILE/);
  t.regex((await start({ KURA_CACHE_CREDENTIAL_FILE: file }))?.message ?? '', /ENOENT/);
  for (const [text, complaint] of [
    ['', /the file holds 0 credentials/],
    ['a'.repeat(15), /not 16 to 1,024 bytes/],
    [`${first}\n${second}\nthird-credential-0123456789\n`, /the file holds 3 credentials/],
    ['with a space 0123456789', /not 16 to 1,024 bytes/],
  ] as const) {
    await writeFile(file, text);
    const message = (await start({ KURA_CACHE_CREDENTIAL_FILE: file }))?.message ?? '';
    t.regex(message, complaint);
    if (text !== '') t.false(message.includes(text));
  }
});

test('with `off` an unsigned caller is accepted, a request without headers is anonymous, and one header alone is rejected', async (t) => {
  const shard = await startTestShard(t);
  const { 'x-kura-caller': caller, 'x-kura-terms': terms } = callerHeaders({ namespace: 'nlp', maxObjectBytes: 1 });
  for (const te of [{}, { te: 'trailers' }]) {
    const put = async (key: string, body: string, headers: object): Promise<number> =>
      (
        await call(shard.url, {
          method: 'PUT',
          path: `/objects/${key}`,
          body,
          headers: { 'content-length': body.length, ...te, ...headers },
        })
      ).status;
    t.is(await put('a', 'xx', {}), 201);
    t.is(await put('b', 'x', { 'x-kura-caller': caller, 'x-kura-terms': terms }), 201);
    t.is(await put('b', 'xx', { 'x-kura-caller': caller, 'x-kura-terms': terms }), 413);
    t.is(await put('b', 'x', { 'x-kura-caller': caller, 'x-kura-terms': `${terms}; sig=unknown` }), 201);
    t.is(await put('b', 'x', { 'x-kura-caller': caller }), 401);
    t.is(await put('b', 'x', { 'x-kura-terms': terms }), 401);
    t.is(await put('b', 'x', { 'x-kura-caller': 'nlp', 'x-kura-terms': terms }), 401);
    t.is(await put('b', 'x', callerHeaders({ expiresAtSeconds: inSeconds(-2) })), 401);
  }
  t.is(await metric(shard, 'kura_cache_namespace_objects', 'namespace="nlp"'), 1);
});

const keyOf = (credential: string) => createSecretKey(Buffer.from(credential));

/** The callers of a shard on a clock of the test. authz signs headers of one Pod at 1,000 s, for 5 s plus 60 s for clock differences. */
function setting() {
  const world = { keys: [keyOf(first)] as readonly KeyObject[] | undefined, now: 1_000_000 };
  const callers = new Callers({ keys: () => world.keys, now: () => world.now });
  const limits = { maxObjectBytes: 9, maxShare: 0.5, mayRedirect: false };
  const signedBy = (keys: readonly KeyObject[], atMs = 1_000_000) => {
    const signer = new CallerSigner({ keys: () => keys, now: () => atMs });
    const identity = { namespace: 'vision', serviceAccount: 'trainer', pod: { name: 'p', uid: 'u' } };
    return signer.sign({ identity, ...limits, scope: { allowed: noKeys, denied: noKeys, seconds: 5, policy: 'v' } });
  };
  const identify = ({ caller, terms }: { caller: string; terms: string }): string => {
    const known = callers.identify(caller, terms);
    return typeof known === 'string' ? known : 'known';
  };
  return { world, callers, signedBy, identify };
}

const noKeys = { GET: [], HEAD: [], PUT: [], DELETE: [] };

test('a caller has the terms that authz signed, on each route', (t) => {
  const { callers, signedBy } = setting();
  const { caller, terms } = signedBy([keyOf(first)]);
  t.is(caller, 'vision/trainer/p');
  t.regex(terms, /^max-object-bytes=9; max-share=0\.5; direct=no; exp=1065; sig=[\w-]{43}$/);
  const about = { namespace: 'vision', serviceAccount: 'trainer', pod: 'p', maxObjectBytes: 9, maxShare: 0.5, version: undefined };
  for (const round of ['verified', 'remembered']) t.like(callers.identify(caller, terms), known(about, 'objects'), round);
  const free = callerHeaders({ credential: first, maxObjectBytes: 1, expiresAtSeconds: 2_000 });
  const others = { ...about, pod: undefined, maxObjectBytes: 1, maxShare: undefined };
  for (const round of ['verified', 'remembered'])
    t.like(callers.identify(free['x-kura-caller'], free['x-kura-terms']), known(others, 'direct'), round);
});

/** The terms of a known caller on each route. */
function known(about: object, direct: 'objects' | 'direct') {
  return { objects: { ...about, route: 'objects' }, direct: { ...about, route: direct } };
}

test('headers with a changed field are forged, before and after the valid headers are stored', (t) => {
  const { signedBy, identify } = setting();
  const right = signedBy([keyOf(first)]);
  const { caller, terms } = right;
  const altered = [
    { caller: 'nlp/trainer/p', terms },
    { caller: 'vision/eval/p', terms },
    { caller: 'vision/trainer/q', terms },
    { caller: 'vision/trainer/-', terms },
    ...['max-object-bytes=9', 'max-share=0.5; ', 'direct=no; ', 'exp=1065'].flatMap((term) => [
      { caller, terms: terms.replace(term, '') },
      { caller, terms: terms.replace(term, term.replace(/\d(?!.*\d)|no/, '8')) },
    ]),
    { caller, terms: `max-object-bytes=99; ${terms}` },
    { caller, terms: terms.replace('exp=', 'fill=s3; exp=') },
  ];
  for (const round of ['unknown', 'remembered']) {
    for (const each of altered) t.is(identify(each), 'forged', `${round} ${JSON.stringify(each)}`);
    t.is(identify(right), 'known');
  }
});

test('signed unknown terms are ignored, and signed invalid terms are malformed', (t) => {
  const { identify } = setting();
  const sign = (text: string): string =>
    `${text}; sig=${createHmac('sha256', keyOf(first)).update(`vision/trainer/p\n${text}`).digest('base64url')}`;
  const caller = 'vision/trainer/p';
  t.is(identify({ caller, terms: sign('max-object-bytes=9; fill=s3-bucket; later=x; exp=1065') }), 'known');
  for (const text of [
    '',
    'exp=1065',
    'max-object-bytes=9',
    'max-object-bytes=9;exp=1065',
    'max-object-bytes=; exp=1065',
    'max-object-bytes=-9; exp=1065',
    'max-object-bytes=9; max-object-bytes=99; exp=1065',
    'max-object-bytes=9; max-share=2; exp=1065',
    'max-object-bytes=9; direct=yes; exp=1065',
    'max-object-bytes=9; exp=soon',
    'max-object-bytes=9; exp=1065; ',
  ])
    t.is(identify({ caller, terms: sign(text) }), 'malformed', text);
});

test('headers expire, also when they are stored; a clock may be 60 s ahead', (t) => {
  const { world, signedBy, identify } = setting();
  const signed = signedBy([keyOf(first)]);
  for (const [now, found] of [
    [1_000_000 - 120_000, 'known'],
    [1_000_000 + 20_000, 'known'],
    [1_065_000 - 1, 'known'],
    [1_065_000, 'expired'],
    [1_000_000 + 120_000, 'expired'],
  ] as const) {
    world.now = now;
    t.is(identify(signed), found, `${now}`);
    t.is(setting().identify(signed), 'known', 'another shard on the clock of authz');
    const late = setting();
    late.world.now = now;
    t.is(late.identify(signed), found, `${now}, for the first time`);
  }
});

test('during a rotation both keys are valid, in either order; a removed or unknown key is not', (t) => {
  const { world, signedBy, identify } = setting();
  const [former, next, unknown] = [keyOf(first), keyOf(second), keyOf('unknown-credential-0123456789')];
  const [byFormer, byNext, byUnknown] = [signedBy([former, next]), signedBy([next, former]), signedBy([unknown, former, next])];
  for (const [keys, accepted] of [
    [[former], [true, false]],
    [
      [former, next],
      [true, true],
    ],
    [
      [next, former],
      [true, true],
    ],
    [[next], [false, true]],
    [[former], [true, false]],
  ] as const) {
    world.keys = keys;
    t.deepEqual(
      [byFormer, byNext].map((each) => identify(each) === 'known'),
      [...accepted],
    );
    t.is(identify(byUnknown), 'forged');
  }
});

test('more callers than the limit are still verified', (t) => {
  const { callers } = setting();
  const signed = Array.from({ length: 17_000 }, (_, at) => callerHeaders({ credential: first, pod: `p-${at}`, expiresAtSeconds: 2_000 }));
  for (const round of [1, 2]) {
    for (const each of signed) {
      const found = callers.identify(each['x-kura-caller'], each['x-kura-terms']);
      if (typeof found === 'string') return t.fail(`round ${round}: ${found}`);
    }
  }
  const [{ 'x-kura-caller': caller, 'x-kura-terms': terms }] = signed as [CallerHeaders];
  t.is(callers.identify(caller, terms), callers.identify(caller, terms), 'the same object');
});
