import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { defaultShardBytes, shardBytesFor } from '../../services/local/shard-bytes.ts';

const gibibyte = 2 ** 30;

test('a shard has 4 GiB where nine tenths of the room hold all of them, otherwise an equal part in whole MiB, and at least 16 MiB', (t) => {
  t.is(shardBytesFor(100 * gibibyte, 4), 4 * gibibyte);
  t.is(shardBytesFor(10 * gibibyte, 4), 2304 * 2 ** 20);
  t.is(shardBytesFor(0, 64), 16 * 2 ** 20);
});

test('the default follows the free space of the disk', async (t) => {
  const stateDirectory = await mkdtemp(path.join(tmpdir(), 'kura-test-'));
  t.teardown(() => rm(stateDirectory, { recursive: true, force: true }));
  const { bavail, bsize } = await statfs(stateDirectory);
  const bytes = await defaultShardBytes({ stateDirectory, shards: 1 });
  t.true(bytes <= 4 * gibibyte);
  t.true(bytes <= Math.max(16 * 2 ** 20, bavail * bsize));
  // More shards than any disk has room for.
  t.is(await defaultShardBytes({ stateDirectory, shards: 2 ** 40 }), 16 * 2 ** 20);
});
