/** A shard whose start fails closes everything that it has opened. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import path from 'node:path';
import test from 'ava';
import { pino } from 'pino';
import { startShard } from '../../services/cache/shard.ts';
import { waitFor } from '../support/wait.ts';
import { shardSettings, temporaryDirectory } from './support/shard.ts';

/** A logger and its messages. */
function recorder() {
  const messages: string[] = [];
  return { messages, log: pino({ level: 'info' }, { write: (line: string) => messages.push(JSON.parse(line).msg) }) };
}

test('a shard whose metrics port is in use releases its directory, its port and its credential file', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.teardown(() => taken.close());
  const directory = await temporaryDirectory(t);
  const file = path.join(await temporaryDirectory(t), 'credential');
  await writeFile(file, 'first-credential-0123456789');
  const environment = { KURA_CACHE_CREDENTIAL_FILE: file };
  const failed = recorder();
  const port = (taken.address() as AddressInfo).port;
  const settings = shardSettings(directory, { ...environment, KURA_CACHE_METRICS_LISTEN: `127.0.0.1:${port}` });
  await t.throwsAsync(startShard(settings, failed.log), { code: 'EADDRINUSE' });

  const later = recorder();
  const shard = await startShard(shardSettings(directory, environment), later.log);
  t.teardown(() => shard.close());
  await writeFile(file, 'second-credential-0123456789');
  const replaced = 'the credentials were replaced';
  await waitFor('the later shard has read the file again', () => later.messages.includes(replaced));
  t.false(failed.messages.includes(replaced), 'the failed shard no longer reads it');
});
