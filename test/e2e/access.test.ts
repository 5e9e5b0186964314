import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CoreV1Api, DiscoveryV1Api } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { type Recorder, startRecorder } from '../support/recorder.ts';
import { remint } from '../support/tokens.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn<LocalSystem>;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem();
});
test.after.always(() => system?.stop());

const problem = (body: Buffer): { status: number; code: string; detail: string } => JSON.parse(body.toString());

test.serial('two namespaces read and write their own prefix', async (t) => {
  for (const as of ['vision/trainer', 'vision/eval', 'nlp/trainer', 'nlp/eval']) {
    const request = { as, path: `/objects/${as.split('/')[0]}/own/${as}` };
    const put = await system.call({ ...request, method: 'PUT', body: `of ${as}` });
    t.is(put.status, 201);
    t.is(put.headers['content-length'], '0');
    t.truthy(put.headers.etag);
    const get = await system.call(request);
    t.is(get.status, 200);
    t.is(get.body.toString(), `of ${as}`);
    t.is(get.headers.etag, put.headers.etag);
    t.is((await system.call({ ...request, method: 'HEAD' })).headers['content-length'], String(get.body.length));
    t.is((await system.call({ ...request, method: 'PUT', body: 'again' })).status, 201);
    t.is((await system.call({ ...request, method: 'DELETE' })).status, 204);
    t.is((await system.call(request)).status, 404);
  }
});

test.serial('no namespace gets at the prefix of another, whatever the method', async (t) => {
  await system.call({ as: 'nlp/trainer', method: 'PUT', path: '/objects/nlp/secret', body: 'nlp only' });
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE']) {
    const answer = await system.call({
      as: 'vision/trainer',
      method,
      path: '/objects/nlp/secret',
      ...(method === 'PUT' ? { body: 'x' } : {}),
    });
    t.is(answer.status, 403, method);
    if (method !== 'HEAD') t.is(problem(answer.body).status, 403);
  }
  t.is((await system.call({ as: 'nlp/trainer', path: '/objects/nlp/secret' })).body.toString(), 'nlp only');
});

test.serial('/through/ names the same objects as /objects/, and without an origin a miss is a miss', async (t) => {
  const as = 'vision/trainer';
  t.is((await system.call({ as, method: 'PUT', path: '/through/vision/a%28b', body: 'one' })).status, 201);
  for (const route of ['objects', 'direct', 'through'])
    t.is((await system.call({ as, path: `/${route}/vision/a(b` })).body.toString(), 'one');
  t.is((await system.call({ as, method: 'DELETE', path: '/through/vision/a(b' })).status, 204);
  t.is(problem((await system.call({ as, path: '/through/vision/a(b' })).body).code, 'miss');
  t.is((await system.call({ as, path: '/through/nlp/x' })).status, 403);
});

test.serial('a prefix is matched with its slash: visionary/ is not vision/', async (t) => {
  t.is((await system.call({ as: 'vision/trainer', path: '/objects/visionary/x' })).status, 403);
  t.is((await system.call({ as: 'vision/trainer', path: '/objects/vision' })).status, 403);
});

test.serial('a request without a good token is a 401 that says how to come back', async (t) => {
  const good = await system.token('vision/trainer');
  const key = await readFile(path.join(system.stateDirectory, 'kubernetes', 'sa.key'), 'utf8');
  const now = Math.floor(Date.now() / 1000);
  const bad: Record<string, Record<string, string>> = {
    'no token': {},
    'an empty header': { authorization: '' },
    'no bearer scheme': { authorization: `Basic ${Buffer.from('a:b').toString('base64')}` },
    junk: { authorization: 'Bearer junk' },
    'an expired token': { authorization: `Bearer ${remint(good, key, { claims: { exp: now - 300, iat: now - 600, nbf: now - 600 } })}` },
    'a token for another audience': { authorization: `Bearer ${remint(good, key, { claims: { aud: ['other'] } })}` },
    'a damaged signature': { authorization: `Bearer ${good.slice(0, -8)}AAAAAAAA` },
    'no signature': { authorization: `Bearer ${remint(good, key, { header: { alg: 'none' } }).replace(/[^.]*$/, '')}` },
  };
  for (const [what, headers] of Object.entries(bad)) {
    const answer = await system.call({ path: '/objects/vision/x', headers });
    t.is(answer.status, 401, what);
    t.regex(String(answer.headers['www-authenticate']), /^Bearer\b/, what);
    t.is(answer.headers['content-type'], 'application/problem+json', what);
    t.is(problem(answer.body).status, 401, what);
  }
});

test.serial('the token of a deleted Pod is refused', async (t) => {
  const token = await system.token('nlp/eval');
  await system.kubernetes.api(CoreV1Api).deleteNamespacedPod({ namespace: 'nlp', name: 'eval', gracePeriodSeconds: 0 });
  await waitFor('the token is refused', async () => (await system.call({ path: '/objects/nlp/x', token })).status === 401, {
    withinMs: 30_000,
  });
  t.is((await system.call({ as: 'nlp/trainer', path: '/objects/nlp/x' })).status, 404);
});

test.serial('other methods and other paths are refused with a problem body', async (t) => {
  const post = await system.call({ as: 'vision/trainer', method: 'POST', path: '/objects/vision/x', body: 'x' });
  t.is(post.status, 405);
  t.regex(String(post.headers.allow), /GET.*PUT/);
  const elsewhere = await system.call({ as: 'vision/trainer', path: '/other' });
  t.true(elsewhere.status === 404 || elsewhere.status === 403 || elsewhere.status === 400, String(elsewhere.status));
  t.is(elsewhere.headers['content-type'], 'application/problem+json');
});

test.serial('keys come back byte for byte, each its own object', async (t) => {
  const keys = [
    'vision/s3://endpoint:9000/bucket/a.zip/pfio-zipfs/b.jpg',
    'vision//double//slash/',
    'vision/double/slash/',
    'vision/query?x=1&y=2',
    'vision/query?x=1&y=3',
    'vision/query',
    'vision/a%20b',
    'vision/a:b;c=d,e@f!$&()*+=~',
    'vision/...',
    'vision/.hidden/..file',
  ];
  for (const key of keys)
    t.is((await system.call({ as: 'vision/trainer', method: 'PUT', path: `/objects/${key}`, body: `of ${key}` })).status, 201, key);
  for (const key of keys) t.is((await system.call({ as: 'vision/trainer', path: `/objects/${key}` })).body.toString(), `of ${key}`, key);
});

/** One name as clients write it into a path. */
const spellings = {
  'the canonical spelling': "vision/my%20data/%C3%A4+~'(1):@,$&=%5B%23.bin",
  'Python’s quote': 'vision/my%20data/%C3%A4%2B~%27%281%29%3A%40%2C%24%26%3D%5B%23.bin',
  'aiohttp and requests': "vision/my%20data/%C3%A4+~'(1):@,$&=%5B%23.bin",
  'curl, with lower-case digits by hand': "vision/my%20data/%c3%a4+%7e'(1):@,$&=%5b%23.bin",
  'Go’s PathEscape': 'vision/my%20data/%C3%A4+~%27%281%29:@%2C$&=%5B%23.bin',
  'Java’s URLEncoder with %20 for +': 'vision/my%20data/%C3%A4%2B%7E%27%281%29%3A%40%2C%24%26%3D%5B%23.bin',
  'every byte': '%76%69%73%69%6f%6e/%6d%79%20%64%61%74%61/%c3%a4%2b%7e%27%28%31%29%3a%40%2c%24%26%3d%5b%23%2e%62%69%6e',
};

test.serial('an object that is stored under one spelling of its key is found under every other, on the same shard', async (t) => {
  const as = 'vision/trainer';
  for (const [writer, written] of Object.entries(spellings)) {
    const put = await system.call({ as, method: 'PUT', path: `/objects/${written}`, body: `by ${writer}` });
    t.is(put.status, 201, writer);
    for (const [reader, read] of Object.entries(spellings)) {
      const get = await system.call({ as, path: `/objects/${read}` });
      t.is(get.body.toString(), `by ${writer}`, reader);
      t.is(get.headers['x-kura-shard'], put.headers['x-kura-shard'], reader);
      const direct = await system.call({ as, method: 'HEAD', path: `/direct/${read}` });
      t.deepEqual([direct.status, direct.headers.etag], [200, put.headers.etag], reader);
    }
  }
  t.is((await system.call({ as, method: 'DELETE', path: `/objects/${spellings['every byte']}` })).status, 204);
  for (const [reader, read] of Object.entries(spellings)) t.is((await system.call({ as, path: `/objects/${read}` })).status, 404, reader);
});

test.serial('the policy holds for every spelling of a key', async (t) => {
  for (const as of ['nlp/trainer', 'vision/trainer']) {
    for (const [reader, read] of Object.entries(spellings))
      t.is((await system.call({ as, path: `/objects/${read}` })).status, as === 'vision/trainer' ? 404 : 403, `${as}, ${reader}`);
  }
  const file = (await system.local()).policy as string;
  const original = await readFile(file, 'utf8');
  t.teardown(() => writeFile(file, original));
  const rule = (keys: string): string =>
    original.replace(
      'tests:',
      `  - { name: one, effect: deny, subjects: [{ namespaces: [vision] }], verbs: [GET], keys: ["${keys}"] }\ntests:`,
    );
  await writeFile(file, rule("vision/my%20data/%C3%A4+~'("));
  for (const [reader, read] of Object.entries(spellings))
    await waitFor(reader, async () => (await system.call({ as: 'vision/trainer', path: `/objects/${read}` })).status === 403);
  t.is((await system.call({ as: 'vision/trainer', path: '/objects/vision/my%20data/%C3%A4' })).status, 404);
  await writeFile(file, rule('vision/my%20data/%c3%a4/'));
  await waitFor('the canonical form is shown', async () => system.output().includes('write \\"vision/my%20data/%C3%A4/\\"'));
});

test.serial('dot segments in every spelling neither leave /objects/ nor cross a prefix', async (t) => {
  await system.call({ as: 'nlp/trainer', method: 'PUT', path: '/objects/nlp/secret', body: 'nlp only' });
  const spellings = [
    '/objects/vision/../nlp/secret',
    '/objects/vision/%2e%2e/nlp/secret',
    '/objects/vision/%2E%2E/nlp/secret',
    '/objects/vision/.%2e/nlp/secret',
    '/objects/vision/..%2fnlp/secret',
    '/objects/vision/..%2Fnlp%2Fsecret',
    '/objects/vision/..%5cnlp/secret',
    '/objects/vision/..\\nlp\\secret',
    '/objects/vision/%252e%252e/nlp/secret',
    '/objects/vision/./../nlp/secret',
    '/objects/vision//../../nlp/secret',
    '/objects/../objects/nlp/secret',
    '/objects/vision/../../healthz',
    '/objects/../metrics',
    '/objects/vision/..;/nlp/secret',
    '/objects/vision/x%00/../nlp/secret',
  ];
  for (const spelling of spellings) {
    const answer = await system.call({ as: 'vision/trainer', path: spelling });
    t.true([400, 403, 404].includes(answer.status), `${spelling}: ${answer.status}`);
    t.false(answer.body.includes('nlp only'), spelling);
    t.is(answer.headers['content-type'], 'application/problem+json', spelling);
  }
});

test.serial('a key over 1,024 bytes is refused', async (t) => {
  const path = (length: number): string => `/objects/vision/${'k'.repeat(length - 'vision/'.length)}`;
  t.is((await system.call({ as: 'vision/trainer', method: 'PUT', path: path(1024), body: 'x' })).status, 201);
  t.is((await system.call({ as: 'vision/trainer', method: 'PUT', path: path(1025), body: 'x' })).status, 400);
});

test.serial('what clients send as x-kura-* or x-envoy-* never reaches a shard, and their token neither', async (t) => {
  const recorder: Recorder = await startRecorder();
  try {
    await system.kubernetes.api(DiscoveryV1Api).createNamespacedEndpointSlice({
      namespace: 'kura-system',
      body: {
        metadata: { name: 'recorder', labels: { 'kubernetes.io/service-name': 'kura-cache' } },
        addressType: 'IPv4',
        endpoints: [
          {
            addresses: ['127.0.0.1'],
            conditions: { ready: true, serving: true, terminating: false },
            targetRef: { kind: 'Pod', name: 'recorder' },
          },
        ],
        ports: [{ name: 'shard-0', port: recorder.port, protocol: 'TCP' }],
      },
    });
    let tried = 0;
    const headers = {
      'x-kura-caller': 'nlp/trainer/-',
      'X-Kura-Terms': 'max-object-bytes=1; max-share=1; exp=1790000000',
      'x-kura-anything': 'x',
      'x-envoy-retry-on': '5xx',
      'x-envoy-anything': 'x',
      'X-Envoy-Upstream-Rq-Timeout-Ms': '1',
      'x-envoy-original-path': '/objects/nlp/x',
    };
    await waitFor('a key of the recording shard', async () => {
      await system.call({ as: 'vision/trainer', path: `/objects/vision/recorded-${tried++}`, headers });
      return recorder.requests.find(({ url }) => url.includes('recorded-'));
    });
    for (const { headers: received } of recorder.requests.filter(({ url }) => url.includes('recorded-'))) {
      t.regex(String(received['x-kura-caller']), /^vision\/trainer\/[a-z0-9-]+$/);
      t.regex(String(received['x-kura-terms']), /^max-object-bytes=[1-9]\d{3,}; exp=\d+; sig=[\w-]{43}$/);
      t.is(received['x-kura-anything'], undefined);
      t.is(received.authorization, undefined);
      t.deepEqual(
        Object.keys(received).filter((name) => name.startsWith('x-envoy-')),
        [],
      );
    }
  } finally {
    await system.kubernetes.api(DiscoveryV1Api).deleteNamespacedEndpointSlice({ namespace: 'kura-system', name: 'recorder' });
    await recorder.close();
  }
});

test.serial('a policy that is saved is in force on live traffic, and one that is broken changes nothing', async (t) => {
  const file = (await system.local()).policy as string;
  const original = await readFile(file, 'utf8');
  t.teardown(() => writeFile(file, original));
  const request = { as: 'vision/trainer', path: '/objects/nlp/shared/x' };
  t.is((await system.call(request)).status, 403);
  const savedAt = performance.now();
  await writeFile(
    file,
    original.replace('tests:', '  - { name: shared, subjects: [{ namespaces: [vision] }], verbs: [GET], keys: [nlp/shared/] }\ntests:'),
  );
  await waitFor('the new rule holds', async () => (await system.call(request)).status === 404);
  t.log(`in force after ${Math.round(performance.now() - savedAt)} ms`);
  t.is((await system.call({ ...request, method: 'PUT', body: 'x' })).status, 403);
  await writeFile(file, 'rules: everything');
  await waitFor('it is told', () => system.output().includes('the policy is rejected'));
  t.is((await system.call(request)).status, 404);
});

test.serial('no token is in what the system logs', async (t) => {
  for (const workload of ['vision/trainer', 'nlp/trainer']) {
    const [, claims, signature] = (await system.token(workload)).split('.') as [string, string, string];
    t.false(system.output().includes(claims));
    t.false(system.output().includes(signature));
  }
});
