/** How long the service keeps the credentials of an origin. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { OriginCredentials } from '../../services/origin/sources/origin-credentials.ts';

test('the files are read at most once a minute, and again after a fault', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-credentials-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const write = (name: string, value: string) => writeFile(path.join(folder, name), `${value}\n`);
  let nowMs = 0;
  const credentials = new OriginCredentials({ folder, now: () => nowMs });
  await write('access-key-id', 'key-1');
  await t.throwsAsync(credentials.s3(), { message: /must hold the files access-key-id and secret-access-key$/ });
  await write('secret-access-key', 'secret-1');
  await write('authorization', 'Bearer 1');
  const first = { accessKeyId: 'key-1', secretAccessKey: 'secret-1', expiration: new Date(60_000) };
  t.deepEqual(await credentials.s3(), first);
  t.is(await credentials.authorization(), 'Bearer 1');
  for (const [name, value] of [
    ['access-key-id', 'key-2'],
    ['secret-access-key', 'secret-2'],
    ['session-token', 'session-2'],
    ['authorization', 'Bearer 2'],
  ] as const)
    await write(name, value);
  nowMs = 59_999;
  t.deepEqual(await credentials.s3(), first);
  t.is(await credentials.authorization(), 'Bearer 1');
  nowMs = 60_000;
  t.deepEqual(await credentials.s3(), {
    accessKeyId: 'key-2',
    secretAccessKey: 'secret-2',
    sessionToken: 'session-2',
    expiration: new Date(120_000),
  });
  t.is(await credentials.authorization(), 'Bearer 2');
});
