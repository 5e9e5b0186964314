/** The component origin with the recipe for S3 of docs/operate.md, on versitygw. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import anyTest, { type TestFn } from 'ava';
import { versitygwBinary } from '../../scripts/kubernetes-tools.ts';
import { freePorts } from '../../services/local/free-ports.ts';
import { type Answer, type Call, call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { type Drill, secondsSince, startDrill, system } from './support/drill.ts';

const test = anyTest as TestFn;
const root = path.resolve(import.meta.dirname, '..', '..');
const credentials = { accessKeyId: 'kura-of-the-test', secretAccessKey: 'the-secret-of-the-bucket' };
const bucket = 'imagenet';
const region = 'eu-central-1';
const objects = 40;
const coldObjects = 2_000;
/** There is no kube-proxy, so the name of Service kura-fill leads to the Pods. */
const fillUrl = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: kura-origin
spec:
  template:
    spec:
      containers:
        - name: origin
          env:
            - name: KURA_ORIGIN_FILL_URL
              value: http://kura-fill:8082
`;
const undo: (() => unknown)[] = [];
let drill: Drill;
let folder: string;

test.before(async (t) => {
  t.timeout(240_000);
  folder = await mkdtemp(path.join(tmpdir(), 'kura-origin-'));
  const [document = '', pods = ''] = await recipe();
  drill = await startDrill({
    components: ['origin'],
    patches: [{ patch: pods }, { patch: fillUrl }],
    prepare: async (cluster) => {
      const stringData = { 'access-key-id': credentials.accessKeyId, 'secret-access-key': credentials.secretAccessKey };
      await cluster.ok('POST', `/api/v1/namespaces/${system}/secrets`, { body: { metadata: { name: 'origin-imagenet' }, stringData } });
    },
  });
  const endpoint = await startBucket(new URL(drill.plane.url).hostname);
  // The prefix of the workload's namespace, for which the policy needs no further rule.
  const own = document
    .replace('prefix: _shared/', 'prefix: vision/')
    .replace('bucket: imagenet\n', `bucket: imagenet\n          endpoint: ${endpoint}\n          pathStyle: true\n`);
  const file = path.join(folder, 'origins.yaml');
  await writeFile(file, own);
  await drill.kubectl.ok('-n', system, 'apply', '--server-side', '--force-conflicts', '-f', file);
});
test.after.always(async () => {
  await drill?.stop();
  for (const each of undo.reverse()) await each();
  await rm(folder, { recursive: true, force: true });
});

/** The ConfigMap and the patch of the Deployment in the documentation. */
async function recipe(): Promise<string[]> {
  const page = await readFile(path.join(root, 'docs', 'operate.md'), 'utf8');
  const [, section = ''] = /^### Recipe: S3\n(.*?)^### /ms.exec(page) ?? [];
  return [...section.matchAll(/^```yaml\n(.*?)^```/gms)].map(([, text = '']) => text);
}

async function startBucket(address: string): Promise<string> {
  const [port] = await freePorts(1);
  const data = await mkdtemp(path.join(tmpdir(), 'kura-bucket-'));
  undo.push(() => rm(data, { recursive: true, force: true }));
  const words = ['--port', `${address}:${port}`, '--region', region, 'posix', data];
  const gateway = spawn('setpriv', ['--pdeathsig', 'KILL', '--', versitygwBinary, ...words], {
    env: { ROOT_ACCESS_KEY: credentials.accessKeyId, ROOT_SECRET_KEY: credentials.secretAccessKey },
    stdio: 'ignore',
  });
  undo.push(() => gateway.kill('SIGKILL'));
  const client = new S3Client({ endpoint: `http://${address}:${port}`, region, forcePathStyle: true, credentials });
  undo.push(() => client.destroy());
  await waitFor('versitygw creates a bucket', async () => {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    return true;
  });
  for (let index = 0; index < objects; index++)
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `train/${index}`, Body: bodyOf(index) }));
  for (let index = 0; index < coldObjects; index++) await writeFile(path.join(data, bucket, `cold-${index}`), 'cold');
  return `http://${address}:${port}`;
}

function bodyOf(index: number): string {
  return `object ${index} `.repeat(1 + index * 1_000);
}

/** Through one of the Envoys. */
function send(key: string, options: Partial<Call> & { route?: string } = {}): Promise<Answer> {
  const { route = 'through', ...others } = options;
  const [address] = drill.addresses();
  return call(`http://${address}:8080`, { path: `/${route}/vision/imagenet/${key}`, token: drill.token, ...others });
}

test.serial('misses come from the bucket, with the Secret and the document of the recipe', async (t) => {
  await waitFor('the first object', async () => (await send('train/1')).status === 200, { withinMs: 60_000 });
  for (let index = 0; index < objects; index += 2) {
    const { status, body } = await send(`train/${index}`);
    t.deepEqual([status, body.toString()], [200, bodyOf(index)]);
  }
  t.is((await send('train/0')).headers['x-kura-cache'], 'hit');
  t.is((await send('train/none')).status, 404);
  const events = await drill.kubectl.ok('-n', system, 'get', 'events', '-o', 'custom-columns=:reason,:involvedObject.name');
  t.regex(events, /OriginsDocumentAccepted\s+kura-origins/);
});

test.serial('a prefetch job fills the rest of the prefix through the listener of Envoy', async (t) => {
  t.timeout(120_000);
  const started = await send('train/', { method: 'POST', route: 'prefetch' });
  t.is(started.status, 202, started.body.toString());
  const { id } = JSON.parse(started.body.toString()) as { id: string };
  const { state, ...progress } = await waitFor('the job ends', async () => {
    const { body } = await send(`train/?id=${id}`, { route: 'prefetch' });
    const found = JSON.parse(body.toString()) as { state: string };
    return found.state !== 'running' && found;
  });
  t.is(state, 'done', JSON.stringify(progress));
  for (let index = 1; index < objects; index += 2) {
    const { headers, body } = await send(`train/${index}`);
    t.deepEqual([headers['x-kura-cache'], body.toString()], ['hit', bodyOf(index)], `${index}`);
  }
});

test.serial('a rolling restart of origin fails no fill', async (t) => {
  t.timeout(240_000);
  const former = new Set(drill.podsOf('kura-origin').map(({ metadata }) => metadata?.uid));
  const failures: string[] = [];
  let next = 0;
  let isOver = false;
  const reader = async (): Promise<void> => {
    while (!isOver && next < coldObjects) {
      const key = `cold-${next++}`;
      const { status, body } = await send(key);
      if (status !== 200 || body.toString() !== 'cold') failures.push(`${key}: ${status} ${body.toString().trim()}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  const readers = [reader(), reader()];
  const startedAt = performance.now();
  await drill.kubectl.ok('-n', system, 'rollout', 'restart', 'deployment/kura-origin');
  await drill.settled();
  await waitFor('the old Pods are gone', () => !drill.podsOf('kura-origin').some(({ metadata }) => former.has(metadata?.uid)), {
    withinMs: 120_000,
  });
  isOver = true;
  await Promise.all(readers);
  t.log(`all new after ${secondsSince(startedAt)}; ${next} fills, ${failures.length} failed`);
  t.deepEqual(failures, []);
  t.true(next > 100);
});
