/** Prefetch jobs: the real origin service, with a scripted server in place of Envoy and the shards. */
import { createSecretKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import path from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { readHeaders } from '../../services/shared/signed-terms.ts';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { codeOf, startOrigin, startScripted } from './support/origin.ts';
import { startFakeShards } from './support/shards.ts';

interface Progress {
  readonly id: string;
  readonly state: string;
  readonly accepted: number;
  readonly objects: number;
  readonly present: number;
  readonly failures: number;
  readonly [field: string]: unknown;
}

type CallerChanges = NonNullable<Parameters<typeof callerHeaders>[0]>;

async function setting(
  t: ExecutionContext,
  { environment = {}, origin = '' }: { environment?: Readonly<Record<string, string>>; origin?: string } = {},
) {
  const folder = await temporaryFolder(t);
  const shards = await startFakeShards(t);
  const entries = `- { name: nfs, prefix: nfs/, file: { path: ${folder} }${origin} }\n- { name: web, prefix: web/, http: { url: http://127.0.0.1:1/ } }\n`;
  const service = await startOrigin(t, entries, { KURA_ORIGIN_FILL_URL: shards.url, ...environment });
  const url = `http://${service.service.listening.prefetch}`;
  const write = async (...names: string[]) => {
    for (const name of names) {
      await mkdir(path.join(folder, path.dirname(name)), { recursive: true });
      await writeFile(path.join(folder, name), 'x');
    }
  };
  const ask = (method: string, target: string, options: { body?: string | Readable; caller?: CallerChanges | 'without an origin' } = {}) =>
    call(url, {
      method,
      path: `/prefetch/${target}`,
      headers: { ...callerHeaders(options.caller === 'without an origin' ? {} : { fill: 'nfs', ...options.caller }) },
      ...(options.body === undefined ? {} : { body: options.body }),
    });
  const start = async (prefix: string, options: Parameters<typeof ask>[2] = {}) => {
    const response = await ask('POST', prefix, options);
    t.is(response.status, 202, String(response.body));
    return JSON.parse(String(response.body)) as Progress;
  };
  const follow = async (prefix: string, id: string) => JSON.parse(String((await ask('GET', `${prefix}?id=${id}`)).body)) as Progress;
  const finished = (prefix: string, { id }: Progress) =>
    waitFor('the end of the job', async () => {
      const progress = await follow(prefix, id);
      return progress.state !== 'running' && progress;
    });
  return { ...service, folder, shards, write, ask, start, follow, finished };
}

const numbered = (count: number) => Array.from({ length: count }, (_, index) => `train/${index}`);

test.serial('a job without a body fetches what the origin lists under the prefix, and a second one skips what is present', async (t) => {
  const { write, start, finished, shards, metrics } = await setting(t);
  await write('train/a b', 'train/sub/c', 'train/sub/d', 'val/e');
  const started = await start('nfs/train/');
  t.like(started, { state: 'running', prefix: 'nfs/train/', origin: 'nfs', listing: true });
  const first = await finished('nfs/train/', started);
  t.like(first, { state: 'done', listing: false, accepted: 3, rejected: 0, dropped: 0, objects: 3, bytes: 300, present: 0, failures: 0 });
  t.deepEqual([...shards.stored.keys()].sort(), ['nfs/train/a%20b', 'nfs/train/sub/c', 'nfs/train/sub/d']);
  shards.stored.delete('nfs/train/sub/c');
  const second = await finished('nfs/train/', await start('nfs/train/'));
  t.like(second, { state: 'done', accepted: 3, objects: 1, present: 2, bytes: 100 });
  const text = await metrics();
  t.regex(text, /^kura_origin_prefetch_objects_total\{origin="nfs",result="fetched"\} 4$/m);
  t.regex(text, /^kura_origin_prefetch_objects_total\{origin="nfs",result="present"\} 2$/m);
  t.regex(text, /^kura_origin_prefetch_bytes_total\{origin="nfs"\} 400$/m);
  t.regex(text, /^kura_origin_prefetch_jobs_total\{result="done"\} 2$/m);
  t.regex(text, /^kura_origin_prefetch_running_jobs 0$/m);
});

test.serial(
  'a job with a list fetches its keys in their canonical spelling, and rejects lines that are no key of the prefix',
  async (t) => {
    const { start, finished, shards } = await setting(t);
    const body = [
      'nfs/train/a%28b',
      'nfs/train/plain\r',
      '',
      'nfs/val/x',
      'nfs/train/../x',
      'nfs/train/%2e%2e/x',
      'nfs/train/%zz',
      'nfs/train/a b',
      `nfs/train/${'x'.repeat(5_000)}`,
      'nfs/train/q?x=%28',
      'nfs/train/last',
    ].join('\n');
    const job = await finished('nfs/train/', await start('nfs/train/', { body }));
    t.like(job, { state: 'done', accepted: 4, rejected: 6, dropped: 0, objects: 4 });
    t.deepEqual([...shards.stored.keys()].sort(), ['nfs/train/a(b', 'nfs/train/last', 'nfs/train/plain', 'nfs/train/q?x=%28']);
    t.deepEqual((job.rejectedKeys as string[]).slice(0, 3), ['nfs/val/x', 'nfs/train/../x', 'nfs/train/%2e%2e/x']);
  },
);

test.serial('keys beyond the memory of a job are dropped and counted', async (t) => {
  const { start, finished, shards } = await setting(t, { environment: { KURA_ORIGIN_MAX_KEYS_BYTES: '1024', KURA_ORIGIN_MAX_FILLS: '1' } });
  const release = Promise.withResolvers<boolean>();
  shards.intercept = () => release.promise;
  const started = await start('nfs/', {
    body: numbered(100)
      .map((name) => `nfs/${name}`)
      .join('\n'),
  });
  t.true(started.accepted > 10 && started.accepted < 40);
  t.is(started.accepted + (started.dropped as number), 100);
  release.resolve(false);
  t.like(await finished('nfs/', started), { state: 'done', objects: started.accepted });
});

test.serial('a list longer than the memory of a job is fetched whole', async (t) => {
  const { write, start, finished } = await setting(t, { environment: { KURA_ORIGIN_MAX_KEYS_BYTES: '1024' } });
  await write(...numbered(200));
  t.like(await finished('nfs/', await start('nfs/')), { state: 'done', accepted: 200, objects: 200 });
});

test.serial('each request is signed for the caller of the job and its limits, as prefetch, for a short time', async (t) => {
  const credential = 'credential-of-this-test-0123456789';
  const folder = await temporaryFolder(t);
  await writeFile(path.join(folder, 'keys'), credential);
  const { start, shards, ask } = await setting(t, { environment: { KURA_ORIGIN_CREDENTIAL_FILE: path.join(folder, 'keys') } });
  const caller = {
    credential,
    namespace: 'vision',
    serviceAccount: 'loader',
    pod: 'loader-0',
    maxObjectBytes: 5_000,
    maxShare: 0.25,
    fill: { origin: 'nfs', share: 0.5, revalidateSeconds: 60 },
  };
  const before = Date.now();
  const { id } = await start('nfs/', { body: 'nfs/a\nnfs/b', caller });
  await waitFor('two requests', () => shards.requests.length === 2);
  for (const { headers } of shards.requests) {
    const key = createSecretKey(Buffer.from(credential));
    const read = readHeaders([key], { caller: String(headers['x-kura-caller']), terms: String(headers['x-kura-terms']) });
    if (read.kind !== 'good') return t.fail(read.kind);
    t.deepEqual(read.caller, { namespace: 'vision', serviceAccount: 'loader', pod: 'loader-0' });
    t.like(read.terms, { maxObjectBytes: 5_000, maxShare: 0.25, mayRedirect: false });
    t.deepEqual(read.terms.fill, { origin: 'nfs', share: 0.5, revalidateSeconds: 60, isPrefetch: true });
    const seconds = read.terms.expiresAtSeconds - before / 1000;
    t.true(seconds >= 120 && seconds < 300);
  }
  t.is(codeOf(await ask('GET', `nfs/?id=${id}`)), 'bad-caller');
  t.is(codeOf(await ask('POST', 'nfs/', { caller: { credential: 'another-credential-0123456789' } })), 'bad-caller');
});

test.serial('a busy shard is asked again after Retry-After, a fault up to four times, and a miss once', async (t) => {
  const { start, finished, shards, metrics } = await setting(t);
  const tries = new Map<string, number[]>();
  const statuses: Readonly<Record<string, readonly number[]>> = {
    'nfs/busy': [503, 503, 200],
    'nfs/fault': [502, 200],
    'nfs/down': [502, 502, 502, 502],
    'nfs/broken': [0, 200],
    'nfs/miss': [404],
    'nfs/large': [413],
    'nfs/full': [507],
    'nfs/odd': [418],
  };
  shards.intercept = (key, response) => {
    const before = tries.get(key) ?? [];
    tries.set(key, [...before, performance.now()]);
    const status = statuses[key]?.[before.length] as number;
    if (status === 200) return false;
    if (status === 0) response.destroy();
    else response.writeHead(status, { 'retry-after': '1' }).end();
    return true;
  };
  const job = await finished('nfs/', await start('nfs/', { body: Object.keys(statuses).join('\n') }));
  t.like(job, { state: 'done', accepted: 8, objects: 3, failures: 5 });
  t.deepEqual(job.failuresByReason, { 'origin-miss': 1, 'too-large': 1, 'no-room': 1, other: 1, 'origin-failed': 1 });
  t.deepEqual(
    Object.fromEntries([...tries].map(([key, times]) => [key, times.length])),
    Object.fromEntries(Object.entries(statuses).map(([key, list]) => [key, list.length])),
  );
  const [first, second] = tries.get('nfs/busy') as [number, number];
  t.true(second - first >= 1_000, 'Retry-After is kept');
  t.true((job.failedKeys as { key: string; reason: string }[]).some(({ key, reason }) => key === 'nfs/miss' && reason === 'origin-miss'));
  t.regex(await metrics(), /^kura_origin_prefetch_retries_total\{reason="busy"\} 2$/m);
});

test.serial('an object that the shard does not store is a failure', async (t) => {
  const { start, finished, shards } = await setting(t);
  shards.intercept = (_key, response) => {
    response.writeHead(200, { 'content-length': 5, 'x-kura-cache': 'fill', 'x-kura-stored': 'no' }).end();
    return true;
  };
  t.like(await finished('nfs/', await start('nfs/', { body: 'nfs/a' })), { objects: 0, failuresByReason: { 'not-stored': 1 } });
});

test.serial('the fills of a job and of all jobs are bounded', async (t) => {
  const { start, finished, shards } = await setting(t, { environment: { KURA_ORIGIN_MAX_FILLS: '6', KURA_ORIGIN_MAX_FILLS_PER_JOB: '4' } });
  let waiting = 0;
  const release = Promise.withResolvers<boolean>();
  shards.intercept = () => {
    waiting++;
    return release.promise;
  };
  const body = numbered(20)
    .map((name) => `nfs/${name}`)
    .join('\n');
  const jobs = [await start('nfs/', { body })];
  await waitFor('four fills', () => waiting === 4);
  jobs.push(await start('nfs/', { body }));
  await waitFor('six fills', () => waiting === 6);
  release.resolve(false);
  for (const job of jobs) t.like(await finished('nfs/', job), { state: 'done', accepted: 20, failures: 0 });
  t.is(shards.open.most, 6);
});

test.serial('DELETE stops a job, and frees its place', async (t) => {
  const { start, ask, finished, shards, service } = await setting(t, { environment: { KURA_ORIGIN_MAX_JOBS_PER_NAMESPACE: '1' } });
  shards.intercept = () => new Promise(() => undefined);
  const started = await start('nfs/', {
    body: numbered(100)
      .map((name) => `nfs/${name}`)
      .join('\n'),
  });
  await waitFor('fills', () => shards.open.now > 0);
  t.is(codeOf(await ask('POST', 'nfs/')), 'too-many-jobs');
  const stopped = await ask('DELETE', `nfs/?id=${started.id}`);
  t.is(stopped.status, 200);
  t.like(JSON.parse(String(stopped.body)), { id: started.id, state: 'stopped', accepted: 100, objects: 0 });
  await waitFor('no fill', () => shards.open.now === 0);
  shards.intercept = () => false;
  const next = await waitFor('a place', async () => {
    const response = await ask('POST', 'nfs/', { body: 'nfs/a' });
    return response.status === 202 && (JSON.parse(String(response.body)) as Progress);
  });
  t.like(await finished('nfs/', next), { state: 'done', objects: 1 });
  t.is((await ask('DELETE', `nfs/?id=${next.id}`)).status, 200);
  const lines = service
    .output()
    .split('\n')
    .filter((line) => line.includes('"audit"'))
    .map((line) => JSON.parse(line).audit as object);
  t.like(lines[0], { action: 'start', who: 'vision/trainer/-', prefix: 'nfs/', origin: 'nfs', accepted: 100 });
  t.like(lines[1], { action: 'stop', who: 'vision/trainer/-' });
  t.false(service.output().includes(started.id), 'no log has a whole id');
});

test.serial('jobs are bounded for each namespace and in all', async (t) => {
  const { start, ask, shards } = await setting(t, {
    environment: { KURA_ORIGIN_MAX_JOBS: '2', KURA_ORIGIN_MAX_JOBS_PER_NAMESPACE: '1' },
  });
  shards.intercept = () => new Promise(() => undefined);
  await start('nfs/', { body: 'nfs/a' });
  const refused = await ask('POST', 'nfs/', { body: 'nfs/a' });
  t.deepEqual([refused.status, codeOf(refused), refused.headers['retry-after']], [429, 'too-many-jobs', '30']);
  await start('nfs/', { body: 'nfs/a', caller: { namespace: 'nlp' } });
  const full = await ask('POST', 'nfs/', { body: 'nfs/a', caller: { namespace: 'audio' } });
  t.deepEqual([full.status, codeOf(full), full.headers['retry-after']], [503, 'no-place-for-job', '30']);
});

test.serial('a job is visible only under its prefix, and an unknown id asks to post again', async (t) => {
  const { start, ask, finished } = await setting(t, { environment: { KURA_ORIGIN_JOB_RETENTION: '1s' } });
  const job = await start('nfs/train/', { body: 'nfs/train/a' });
  t.regex(job.id, /^[\w-]{22}$/);
  for (const target of [`nfs/?id=${job.id}`, 'nfs/train/?id=x', 'nfs/train/', 'nfs/train/?id=']) {
    for (const method of ['GET', 'DELETE']) {
      const response = await ask(method, target);
      t.deepEqual([response.status, codeOf(response)], [404, 'no-such-job'], `${method} ${target}`);
      t.regex(String(response.body), /Post again; objects in the cache are skipped/);
    }
  }
  await finished('nfs/train/', job).catch(() => undefined);
  await waitFor('the job is forgotten', async () => (await ask('GET', `nfs/train/?id=${job.id}`)).status === 404);
});

test.serial('a POST that cannot start a job is refused by code', async (t) => {
  const { ask } = await setting(t);
  const refusal = async (...given: Parameters<typeof ask>) => {
    const response = await ask(...given);
    return [response.status, codeOf(response)];
  };
  t.deepEqual(await refusal('POST', 'nfs/train'), [400, 'bad-prefix']);
  t.deepEqual(await refusal('POST', 'nfs/a%28b/'), [400, 'bad-prefix']);
  t.deepEqual(await refusal('POST', 'other/'), [404, 'no-origin']);
  t.deepEqual(await refusal('POST', 'nfs/../other/'), [400, 'bad-prefix']);
  t.deepEqual(await refusal('POST', ''), [404, 'no-origin']);
  t.deepEqual(await refusal('POST', 'nfs/', { caller: { fill: 'absent' } }), [404, 'no-origin']);
  t.deepEqual(await refusal('POST', 'nfs/', { caller: { expiresAtSeconds: 1 } }), [401, 'bad-caller']);
  for (const method of ['POST', 'GET', 'DELETE'])
    t.deepEqual(await refusal(method, 'nfs/?id=x', { caller: 'without an origin' }), [404, 'no-origin']);
  t.deepEqual(await refusal('POST', 'web/', { caller: { fill: 'web' } }), [501, 'no-list']);
  t.deepEqual(await refusal('PUT', 'nfs/'), [405, 'method-not-allowed']);
  t.deepEqual(await refusal('POST', '../fetch/nfs/x'), [400, 'bad-prefix']);
});

test.serial('a list that is too long is refused, with a length before its body', async (t) => {
  const { ask, start, service } = await setting(t);
  const announced = request(`http://${service.listening.prefetch}/prefetch/nfs/`, {
    method: 'POST',
    headers: { ...callerHeaders({ fill: 'nfs' }), 'content-length': 2 ** 40 },
  });
  announced.flushHeaders();
  const [response] = (await once(announced, 'response')) as [IncomingMessage];
  announced.on('error', () => undefined).destroy();
  t.is(response.statusCode, 413);
  const refused = await ask('POST', 'nfs/', { body: Readable.from([Buffer.alloc(64 * 2 ** 20, 'x'), Buffer.from('x')]) });
  t.deepEqual([refused.status, codeOf(refused)], [413, 'body-too-large']);
  t.like(await start('nfs/', { body: 'nfs/a' }), { accepted: 1 });
});

test.serial('an HTTP origin needs a list of keys, and has a job with one', async (t) => {
  const { ask, shards } = await setting(t);
  t.is((await ask('POST', 'web/', { caller: { fill: 'web' }, body: 'web/a' })).status, 202);
  await waitFor('the fill', () => shards.stored.has('web/a'));
});

test.serial('an origin that cannot list makes the job fail, with its reason', async (t) => {
  const { folder, start, finished } = await setting(t, { origin: ', timeout: 200ms' });
  await rm(folder, { recursive: true });
  await writeFile(folder, 'no folder');
  const job = await finished('nfs/', await start('nfs/'));
  t.like(job, { state: 'failed', reason: 'the origin could not list its objects: origin-failed', accepted: 0 });
});

test.serial('fetches for jobs use half of the turns of an origin, and readers get theirs', async (t) => {
  const release = Promise.withResolvers<void>();
  const { host, requests } = await startScripted(t, (_request, response) => void release.promise.then(() => response.end('x')));
  const entries = `- { name: web, prefix: web/, http: { url: http://${host}/ }, allowedHosts: [127.0.0.1], maxConcurrency: 4 }\n`;
  const { fetch } = await startOrigin(t, entries);
  const prefetch = { headers: { ...callerHeaders({ fill: { origin: 'web', isPrefetch: true } }) } };
  const fetched = Array.from({ length: 4 }, (_, index) => fetch('web', `job-${index}`, prefetch));
  await waitFor('two requests', () => requests.length === 2);
  fetched.push(fetch('web', 'reader-0'), fetch('web', 'reader-1'));
  await waitFor('four requests', () => requests.length === 4);
  t.deepEqual(requests.map(({ url }) => url?.slice(0, 4)).sort(), ['/job', '/job', '/rea', '/rea']);
  release.resolve();
  t.true((await Promise.all(fetched)).every(({ status }) => status === 200));
});

test.serial('objects of a list that are larger than the caller may store are rejected', async (t) => {
  const { write, folder, start, finished } = await setting(t);
  await write('a');
  await writeFile(path.join(folder, 'large'), Buffer.alloc(2_000));
  const job = await finished('nfs/', await start('nfs/', { caller: { maxObjectBytes: 1_000 } }));
  t.like(job, { state: 'done', accepted: 1, rejected: 1, objects: 1, rejectedKeys: ['nfs/large'] });
});

test.serial('rate and time left are shown, and SIGTERM ends a service with jobs', async (t) => {
  const { start, follow, shards, service } = await setting(t, { environment: { KURA_ORIGIN_MAX_FILLS: '2' } });
  let count = 0;
  shards.intercept = () => (++count > 10 ? new Promise(() => undefined) : delay(20, false));
  const { id } = await start('nfs/', {
    body: numbered(50)
      .map((name) => `nfs/${name}`)
      .join('\n'),
  });
  const progress = await waitFor('ten objects', async () => {
    const now = await follow('nfs/', id);
    return now.objects === 10 && now;
  });
  t.true((progress.rate as { objects: number }).objects > 0 && (progress.etaSeconds as number) > 0);
  t.is(await service.stop('SIGTERM'), 0);
});
