/** Read-through in the whole system: a miss is fetched once from its origin, through the real Envoy. */
import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CoreV1Api } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { parse, stringify } from 'yaml';
import type { Answer } from '../support/http.ts';
import { runProgram } from '../support/program.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';
import { patternOf, type Reading, readPattern, startWebOrigin, type WebOrigin } from './support/web-origin.ts';

const test = anyTest as TestFn;
const MiB = 2 ** 20;
const crowd = 64;
const crowdObjectBytes = 256 * MiB;
/** Of the crowd, so many read to the end, because 16 GiB would take minutes. */
const crowdToEnd = 4;
const files = 300;
const as = 'vision/trainer';
/** vision may fill from its origins. nlp may read, but has no FILL. */
const policy = `
apiVersion: kura/v1
kind: AccessPolicy
mode: enforce
default: deny
rules:
  - name: own
    subjects: [{ namespaces: ["*"] }]
    verbs: [GET, HEAD, PUT, DELETE]
    keys: ["{namespace}/"]
  - name: fill
    subjects: [{ namespaces: [vision] }]
    verbs: [FILL, LIST]
    keys: [vision/]
`;

let system: LocalSystem;
let web: WebOrigin;

test.before(async () => {
  const state = await mkdtemp(path.join(tmpdir(), 'kura-e2e-'));
  await writeFile(path.join(state, 'policy.yaml'), policy);
  const folder = path.join(state, 'nfs');
  await mkdir(path.join(folder, 'a b'), { recursive: true });
  for (let index = 0; index < files; index += 1) await writeFile(path.join(folder, 'a b', `${index}.bin`), patternOf(index * 1_000));
  web = await startWebOrigin();
  const url = `http://127.0.0.1:${web.port}/`;
  const origins = [`vision/web/=${url}vision/`, `nlp/web/=${url}nlp/`, `vision/nfs/=${folder}`];
  const args = ['--shards', '2', '--shard-bytes', '4Gi', ...origins.flatMap((origin) => ['--origin', origin])];
  system = await startLocalSystem({ args, stateDirectory: state });
});
test.after.always(async () => {
  await system?.stop();
  web?.close();
});

const get = (route: string, key: string, caller = as): Promise<Answer> => system.call({ as: caller, path: `/${route}/${key}` });

async function read(key: string, leaveAt?: number): Promise<Reading> {
  return readPattern(`${(await system.local()).url}/through/${key}`, await system.token(as), leaveAt);
}

/** Problem code of a response. */
function codeOf({ body }: Answer): string {
  return (JSON.parse(String(body)) as { code: string }).code;
}

/** Temporary files of all shards. */
async function temporaryFiles(): Promise<string[]> {
  const { shards } = await system.local();
  const each = await Promise.all(shards.map(({ directory }) => readdir(directory, { recursive: true })));
  return each.flat().filter((name) => name.endsWith('.part'));
}

/** The largest resident memory of a process so far. */
async function peakBytes(name: string): Promise<number> {
  const { processes } = await system.local();
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile(`/proc/${processes[name]}/status`, 'utf8')) ?? [];
  return Number(kibibytes) * 1024;
}

test.serial('64 clients of one cold object cause one request at the origin, and each has a byte before the fill ends', async (t) => {
  const { open } = web.place('/vision/crowd', { bytes: crowdObjectBytes, gateAt: MiB });
  const names = ['envoy', 'origin', 'kura-cache-0', 'kura-cache-1'];
  const before = await Promise.all(names.map(peakBytes));
  const readings = await Promise.all(
    Array.from({ length: crowd }, (_, index) => read('vision/web/crowd', index < crowdToEnd ? undefined : 16 * MiB)),
  );
  await Promise.all(readings.map(({ firstByte }) => firstByte));
  open();
  const ends = await Promise.all(readings.map(({ ended }) => ended));
  t.deepEqual(ends, [...Array(crowdToEnd).fill('whole'), ...Array(crowd - crowdToEnd).fill('left')]);
  const heads = await Promise.all(readings.map(({ head }) => head));
  t.deepEqual(heads.map(({ headers }) => headers['x-kura-cache']).sort(), ['fill', ...Array(crowd - 1).fill('wait')]);
  for (const { headers } of heads) {
    t.is(headers['content-length'], String(crowdObjectBytes));
    t.is(headers.etag, undefined);
  }
  t.deepEqual(web.requests, ['GET /vision/crowd']);
  const after = await Promise.all(names.map(peakBytes));
  for (const [index, name] of names.entries()) {
    const grown = (after[index] as number) - (before[index] as number);
    t.log(`${name}: ${Math.round(grown / MiB)} MiB more memory`);
    t.true(grown < crowdObjectBytes, `${name} has ${grown} bytes more`);
  }
});

test.serial('all clients leave, and the object is there', async (t) => {
  const { open } = web.place('/vision/left', { bytes: 8 * MiB, gateAt: MiB });
  const readings = await Promise.all(Array.from({ length: 8 }, () => read('vision/web/left')));
  await Promise.all(readings.map(({ firstByte }) => firstByte));
  for (const { leave } of readings) leave();
  t.is((await get('objects', 'vision/web/left')).status, 404);
  open();
  const found = await waitFor('the object is there', async () => {
    const answer = await get('objects', 'vision/web/left');
    return answer.status === 200 && answer;
  });
  t.true(found.body.equals(patternOf(8 * MiB)));
  t.is((await get('through', 'vision/web/left')).headers['x-kura-cache'], 'hit');
  t.is(web.count('/vision/left'), 1);
});

for (const name of ['shard', 'origin', 'envoy'] as const)
  test.serial(`${name} is killed in mid-fill: no wrong byte, no half file, and the next request fills`, async (t) => {
    const [key, bytes] = [`vision/web/killed-${name}`, 16 * MiB];
    const { open } = web.place(`/vision/killed-${name}`, { bytes, gateAt: 4 * MiB });
    const readings = await Promise.all([read(key), read(key), read(key)]);
    await Promise.all(readings.map(({ firstByte }) => firstByte));
    const { headers } = await (readings[0] as Reading).head;
    const shard = String(headers['x-kura-shard']);
    const victim = name === 'shard' ? shard.replace(/\/.*/, '') : name;
    const pid = await system.signal(victim, 'SIGKILL');
    // `ended` rejects for a wrong byte.
    t.deepEqual(await Promise.all(readings.map(({ ended }) => ended)), ['broken', 'broken', 'broken']);
    await system.restarted(victim, pid);
    // Until then, Envoy may route the key to the other shard.
    await waitFor('Envoy routes the key to its shard', async () => {
      const answer = await get('objects', key).catch(() => undefined);
      return answer?.status === 404 && answer.headers['x-kura-shard'] === shard;
    });
    if (name !== 'envoy') await waitFor('no temporary file is left', async () => (await temporaryFiles()).length === 0);
    open();
    // A busy disk may refuse an object. Then each request fetches it, until the shard stores it.
    let refused = 0;
    const found = await waitFor('the object is read and stored', async () => {
      const answer = await get('through', key);
      const isWhole = answer.status === 200 && answer.complete;
      if (isWhole && answer.headers['x-kura-stored'] === 'no') refused += 1;
      return isWhole && answer.headers['x-kura-stored'] !== 'no' && answer;
    });
    t.is(found.headers['x-kura-shard'], shard);
    t.true(found.body.equals(patternOf(bytes)));
    await waitFor('no temporary file is left', async () => (await temporaryFiles()).length === 0);
    const stored = await waitFor('the object is stored', () => get('objects', key).then((answer) => answer.status === 200 && answer));
    t.true(stored.body.equals(patternOf(bytes)));
    // A fill does not depend on Envoy.
    t.is(web.count(`/vision/killed-${name}`), (name === 'envoy' ? 1 : 2) + refused);
  });

test.serial('an origin that this machine must not reach is refused, also by a name and by a redirect', async (t) => {
  const inside = await startWebOrigin();
  t.teardown(inside.close);
  inside.place('/secret', { bytes: 10 });
  web.redirect('/vision/hop', `http://localhost:${inside.port}/secret`);
  const core = system.kubernetes.api(CoreV1Api);
  const at = { namespace: 'kura-system', name: 'kura-origins' };
  const { data } = await core.readNamespacedConfigMap(at);
  const document = parse(data?.['origins.yaml'] as string) as { origins: object[] };
  const url = `http://127.0.0.1:${web.port}/vision/`;
  document.origins.push(
    { name: 'metadata', prefix: 'vision/metadata/', http: { url: 'http://169.254.169.254/latest/' } },
    { name: 'mapped', prefix: 'vision/mapped/', http: { url: 'http://[::ffff:169.254.169.254]/latest/' } },
    { name: 'loopback', prefix: 'vision/loopback/', http: { url: `http://127.0.0.1:${inside.port}/` } },
    { name: 'named', prefix: 'vision/named/', http: { url: `http://localhost:${inside.port}/` } },
    { name: 'hop', prefix: 'vision/hop/', http: { url }, allowedHosts: ['127.0.0.1'] },
    { name: 'allowed', prefix: 'vision/allowed/', http: { url }, allowedHosts: ['127.0.0.1', 'localhost'] },
  );
  await core.replaceNamespacedConfigMap({ ...at, body: { metadata: { name: at.name }, data: { 'origins.yaml': stringify(document) } } });
  // A worker of Envoy that has a grant does not know the new origins for some seconds.
  const known = (key: string) =>
    waitFor(`the origin of ${key} is known`, async () => {
      const answer = await get('through', `vision/${key}`);
      return answer.status !== 404 && answer;
    });
  t.is((await known('allowed/hop')).status, 200);
  t.deepEqual(inside.requests, ['GET /secret']);
  for (const key of ['metadata/meta-data', 'mapped/meta-data', 'loopback/secret', 'named/secret', 'hop/hop']) {
    const answer = await known(key);
    t.deepEqual([answer.status, codeOf(answer)], [502, 'origin-failed'], key);
  }
  t.deepEqual(inside.requests, ['GET /secret']);
});

test.serial('kura prefetch fetches a folder, and a second run finds every object', async (t) => {
  const words = ['prefetch', 'vision/nfs/a b', '--json', '--local', path.join(system.stateDirectory, 'local.json')];
  const prefetch = async (): Promise<object> => {
    const { status, stdout, stderr } = await runProgram('services/cli/main.ts', words, { environment: { HOME: system.stateDirectory } });
    t.is(status, 0, stderr);
    return JSON.parse(String(stdout)) as object;
  };
  const bytes = (files * (files - 1) * 1_000) / 2;
  t.like(await prefetch(), { state: 'done', accepted: files, objects: files, present: 0, failures: 0, bytes });
  t.like(await prefetch(), { state: 'done', accepted: files, objects: 0, present: files, failures: 0 });
  for (const index of [0, 1, files - 1]) {
    const answer = await get('through', `vision/nfs/a%20b/${index}.bin`);
    t.is(answer.headers['x-kura-cache'], 'hit');
    t.true(answer.body.equals(patternOf(index * 1_000)));
  }
});

test.serial('a caller without FILL causes no request at the origin, in dryRun too, and another namespace gets 403', async (t) => {
  web.place('/vision/kept', { bytes: 10 });
  web.place('/nlp/kept', { bytes: 10 });
  const before = web.requests.length;
  const reach = async (key: string): Promise<unknown[]> => {
    const [got, asked] = [
      await get('through', key, 'nlp/trainer'),
      await system.call({ as: 'nlp/trainer', method: 'HEAD', path: `/through/${key}` }),
    ];
    const prefix = key.slice(0, key.lastIndexOf('/') + 1);
    const posted = await system.call({ as: 'nlp/trainer', method: 'POST', path: `/prefetch/${prefix}` });
    return [got.status, codeOf(got), asked.status, posted.status, codeOf(posted)];
  };
  t.deepEqual(await reach('nlp/web/kept'), [404, 'miss', 404, 403, 'forbidden']);
  t.deepEqual(await reach('vision/web/kept'), [403, 'forbidden', 403, 403, 'forbidden']);
  await writeFile((await system.local()).policy as string, policy.replace('mode: enforce', 'mode: dryRun'));
  await waitFor('the policy is in force', async () => (await get('objects', 'vision/web/kept', 'nlp/trainer')).status === 404);
  t.deepEqual(await reach('nlp/web/kept'), [404, 'miss', 404, 403, 'forbidden']);
  t.deepEqual(await reach('vision/web/kept'), [404, 'miss', 404, 403, 'forbidden']);
  t.is(web.requests.length, before);
});
