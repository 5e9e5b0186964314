/** An origin that is a bucket, on the S3 server of moto. */
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import test, { type ExecutionContext } from 'ava';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { installedPackages } from '../support/python-packages.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { codeOf, startOrigin } from './support/origin.ts';

const credentials = { accessKeyId: 'AKIAEXAMPLE', secretAccessKey: 'secret-of-the-bucket' };

/** Undefined without moto. */
async function startS3(t: ExecutionContext): Promise<{ endpoint: string; put: (key: string, body: string) => Promise<void> } | undefined> {
  t.timeout(180_000);
  const requirements = path.join(import.meta.dirname, 'support', 'requirements.txt');
  const installed = await installedPackages('moto', requirements).catch((error: Error) => {
    if (process.env.CI === 'true') throw error;
    console.warn(`moto is not available: skipping the tests of S3: ${error.message}`);
  });
  if (installed === undefined) return undefined;
  const env = { ...process.env, PYTHONPATH: installed };
  const moto = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'python3', '-m', 'moto.server', '-p', '0'], { env });
  t.teardown(() => moto.kill('SIGKILL'));
  let output = '';
  for (const stream of [moto.stdout, moto.stderr]) stream.on('data', (chunk) => (output += chunk));
  await waitFor('the S3 server', () => /Running on http/.test(output));
  const endpoint = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0] as string;
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  t.teardown(() => client.destroy());
  await client.send(new CreateBucketCommand({ Bucket: 'imagenet' }));
  return {
    endpoint,
    put: async (Key, Body) => void (await client.send(new PutObjectCommand({ Bucket: 'imagenet', Key, Body }))),
  };
}

test('objects, ranges, lists and misses of a bucket', async (t) => {
  const s3 = await startS3(t);
  if (s3 === undefined) return t.pass();
  const secrets = await temporaryFolder(t);
  await mkdir(path.join(secrets, 'train'), { recursive: true });
  for (const [name, value] of [
    ['access-key-id', credentials.accessKeyId],
    ['secret-access-key', credentials.secretAccessKey],
  ] as const)
    await writeFile(path.join(secrets, 'train', name), `${value}\n`);
  const common = `endpoint: ${s3.endpoint}, region: us-east-1, pathStyle: true`;
  const reach = 'allowedHosts: ["127.0.0.1"], timeout: 20s';
  const { fetch, url, service } = await startOrigin(
    t,
    `- { name: train, prefix: train/, s3: { bucket: imagenet, prefix: v1/, ${common} }, ${reach} }
- { name: gone, prefix: gone/, s3: { bucket: no-bucket, ${common} }, ${reach} }
- { name: inside, prefix: inside/, s3: { bucket: imagenet, ${common} }, timeout: 20s }
`,
    { KURA_ORIGIN_SECRETS_DIRECTORY: secrets, AWS_EC2_METADATA_DISABLED: 'true' },
  );
  await s3.put('v1/a b/ü.jpg', 'ABCDEFGHIJ');
  await s3.put('v1/b?c', 'query is a part of the name');
  const whole = await fetch('train', 'a%20b/%C3%BC.jpg');
  t.deepEqual([whole.status, String(whole.body), whole.headers['content-length']], [200, 'ABCDEFGHIJ', '10']);
  t.regex(whole.headers.etag ?? '', /^"[0-9a-f]{32}"$/);
  const part = await fetch('train', 'a%20b/%C3%BC.jpg', { headers: { range: 'bytes=2-5' } });
  t.deepEqual([part.status, String(part.body), part.headers['content-range']], [206, 'CDEF', 'bytes 2-5/10']);
  t.is(codeOf(await fetch('train', 'a%20b/%C3%BC.jpg', { headers: { range: 'bytes=10-' } })), 'range-not-satisfiable');
  const head = await fetch('train', 'a%20b/%C3%BC.jpg', { method: 'HEAD' });
  t.deepEqual([head.status, head.headers['content-length'], head.headers.etag], [200, '10', whole.headers.etag]);
  t.is(String((await fetch('train', 'b?c')).body), 'query is a part of the name');
  for (const path of ['absent', '%FF']) t.is(codeOf(await fetch('train', path)), 'origin-miss', path);
  t.is((await fetch('train', 'absent', { method: 'HEAD' })).status, 404);
  t.is(codeOf(await fetch('gone', 'k')), 'origin-refused', 'an origin without credentials');
  t.is(codeOf(await fetch('inside', 'k')), 'origin-failed', 'an endpoint on this machine that allowedHosts does not list');
  const { body } = await call(url, { path: '/list/train?prefix=train/a', headers: { ...callerHeaders({ fill: 'train' }) } });
  const [first, last] = String(body)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as object);
  t.like(first, { key: 'train/a%20b/%C3%BC.jpg', size: 10 });
  t.like(last, { end: true });
  t.notRegex(service.output(), new RegExp(credentials.secretAccessKey));
});
