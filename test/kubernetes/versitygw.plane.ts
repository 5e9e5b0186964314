/** An origin that is a bucket of versitygw, which verifies the signature of each request. */
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { versitygwBinary } from '../../scripts/kubernetes-tools.ts';
import { freePorts } from '../../services/local/free-ports.ts';
import { codeOf, startOrigin } from '../origin/support/origin.ts';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';

const test = anyTest as TestFn;
const bucket = 'imagenet';
const region = 'eu-central-1';
const credentials = { accessKeyId: 'kura-of-the-test', secretAccessKey: 'the-secret-of-the-bucket' };
/** More than a page of S3. */
const files = 1_100;

test('objects, ranges and lists of a bucket, and a wrong key is refused', async (t) => {
  const endpoint = await startServer(t);
  const secrets = await temporaryFolder(t);
  await writeSecret(secrets, 'right', credentials.secretAccessKey);
  await writeSecret(secrets, 'wrong', 'another-secret');
  const s3 = `s3: { bucket: ${bucket}, prefix: train/, endpoint: "${endpoint}", region: ${region}, pathStyle: true }`;
  const entry = (name: string) => `- { name: ${name}, prefix: ${name}/, ${s3}, allowedHosts: ["127.0.0.1"], timeout: 20s }\n`;
  const { fetch, url, service } = await startOrigin(t, entry('right') + entry('wrong'), { KURA_ORIGIN_SECRETS_DIRECTORY: secrets });

  const whole = await fetch('right', 'a%20b/%C3%BC+(1).jpg');
  t.deepEqual([whole.status, String(whole.body), whole.headers['content-length']], [200, 'ABCDEFGHIJ', '10']);
  t.truthy(whole.headers.etag);
  const part = await fetch('right', 'a%20b/%C3%BC+(1).jpg', { headers: { range: 'bytes=2-5' } });
  t.deepEqual([part.status, String(part.body), part.headers['content-range']], [206, 'CDEF', 'bytes 2-5/10']);
  t.is(codeOf(await fetch('right', 'a%20b/%C3%BC+(1).jpg', { headers: { range: 'bytes=10-' } })), 'range-not-satisfiable');
  const head = await fetch('right', 'a%20b/%C3%BC+(1).jpg', { method: 'HEAD' });
  t.deepEqual([head.status, head.headers['content-length'], head.headers.etag], [200, '10', whole.headers.etag]);
  t.is(codeOf(await fetch('right', 'absent')), 'origin-miss');

  const list = async (query: string): Promise<{ key: string; size: number; end?: boolean }[]> => {
    const { body } = await call(url, { path: `/list/right?${query}`, headers: { ...callerHeaders({ fill: 'right' }) } });
    return String(body)
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
  };
  const listed = await list('prefix=right/many/');
  t.deepEqual(
    listed.slice(0, -1).map(({ key }) => key),
    Array.from({ length: files }, (_, index) => `right/many/${String(index).padStart(4, '0')}`),
  );
  t.true(listed.at(-1)?.end);
  const last = `right/many/${files - 1}`;
  t.deepEqual(
    (await list(`prefix=right/many/&after=right/many/${files - 2}`)).map(({ key }) => key),
    [last, undefined] as string[],
  );

  for (const method of ['GET', 'HEAD']) t.is((await fetch('wrong', 'a%20b/%C3%BC+(1).jpg', { method })).status, 502, method);
  t.is(codeOf(await fetch('wrong', 'a%20b/%C3%BC+(1).jpg')), 'origin-refused');
  t.is(codeOf(await call(url, { path: '/list/wrong', headers: { ...callerHeaders({ fill: 'wrong' }) } })), 'origin-refused');
  t.regex(service.output(), /"origin":"wrong".*SignatureDoesNotMatch/);
  for (const secret of [credentials.secretAccessKey, 'another-secret']) t.false(service.output().includes(secret));
});

/** With one object that has an unusual name, and many small ones. Resolves with the endpoint. */
async function startServer(t: ExecutionContext): Promise<string> {
  const folder = await temporaryFolder(t);
  const [port] = await freePorts(1);
  const words = ['--port', `127.0.0.1:${port}`, '--region', region, 'posix', folder];
  const gateway = spawn('setpriv', ['--pdeathsig', 'KILL', '--', versitygwBinary, ...words], {
    env: { ROOT_ACCESS_KEY: credentials.accessKeyId, ROOT_SECRET_KEY: credentials.secretAccessKey },
    stdio: 'ignore',
  });
  t.teardown(() => gateway.kill('SIGKILL'));
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials });
  t.teardown(() => client.destroy());
  await waitFor('versitygw creates a bucket', async () => {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    return true;
  });
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'train/a b/ü+(1).jpg', Body: 'ABCDEFGHIJ' }));
  const many = path.join(folder, bucket, 'train', 'many');
  await mkdir(many);
  for (let index = 0; index < files; index++) await writeFile(path.join(many, String(index).padStart(4, '0')), 'x');
  return endpoint;
}

async function writeSecret(secrets: string, origin: string, secretAccessKey: string): Promise<void> {
  await mkdir(path.join(secrets, origin));
  await writeFile(path.join(secrets, origin, 'access-key-id'), credentials.accessKeyId);
  await writeFile(path.join(secrets, origin, 'secret-access-key'), secretAccessKey);
}
