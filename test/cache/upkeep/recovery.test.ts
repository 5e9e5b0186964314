import { cp } from 'node:fs/promises';
import test from 'ava';
import { waitFor } from '../../support/wait.ts';
import { get, put } from '../datasets/support/console.ts';
import { storedBytes } from '../support/disk.ts';
import { metric, startTestShard, temporaryDirectory } from '../support/shard.ts';

test('an object that was replaced after the last snapshot keeps its new size, although it is read before it is counted', async (t) => {
  const first = await startTestShard(t);
  for (let at = 0; at < 20; at += 1) await put(first, `set/${at}`, 100);
  await first.close();
  const second = await startTestShard(t, { directory: first.directory });
  await waitFor('all is counted', async () => (await metric(second, 'kura_cache_recovered_ratio')) === 1);
  for (let at = 0; at < 20; at += 1) await put(second, `set/${at}`, 400_000);
  // What a process finds after a kill now: new files and the snapshot of the old ones.
  const copy = await temporaryDirectory(t);
  await cp(first.directory, copy, { recursive: true });
  const third = await startTestShard(t, { directory: copy, environment: { KURA_CACHE_OPEN_FILES: '0' } });
  for (let at = 0; at < 20; at += 1) await get(third, `set/${at}`);
  await waitFor('all is counted', async () => (await metric(third, 'kura_cache_recovered_ratio')) === 1);
  t.is(await metric(third, 'kura_cache_stored_bytes'), await storedBytes(copy));
  for (let at = 0; at < 20; at += 1) t.is(await get(third, `set/${at}`), 200);
});
