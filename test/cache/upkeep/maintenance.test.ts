import test from 'ava';
import { pino } from 'pino';
import { Counters } from '../../../services/cache/counters.ts';
import { Catalog } from '../../../services/cache/index/catalog.ts';
import { Clock } from '../../../services/cache/index/clock.ts';
import { BufferPool } from '../../../services/cache/store/buffer-pool.ts';
import { PageCacheWindow } from '../../../services/cache/store/page-cache-window.ts';
import type { Store } from '../../../services/cache/store/store.ts';
import { Maintenance } from '../../../services/cache/upkeep/maintenance.ts';
import { waitFor } from '../../support/wait.ts';

test('the folders are measured after a thousand new files, and not while a shard only reads', async (t) => {
  const clock = new Clock();
  const limits = { maxBytes: 2 ** 30, maxFiles: 10_000 };
  const catalog = new Catalog({ limits, eviction: 'lru', clock, maxObjectShare: 1, evict: async () => true });
  let [looks, files] = [0, 0];
  Object.defineProperty(catalog.space, 'filesSinceOverhead', {
    get: () => {
      looks += 1;
      return files;
    },
    set: (now: number) => {
      files = now;
    },
  });
  const stop = new AbortController();
  let measured = 0;
  const maintenance = new Maintenance({
    directory: '/nowhere',
    catalog,
    store: {} as Store,
    clock,
    counters: new Counters(),
    window: new PageCacheWindow({ maxBytes: 2 ** 30, startTick: 1 }),
    buffers: new BufferPool({ maxBytes: 2 ** 26 }),
    log: pino({ level: 'silent' }),
    scrubBytesPerSecond: 0,
    health: { note: () => t.fail() },
    folderBytes: async () => {
      measured += 1;
      return 4096;
    },
    signal: stop.signal,
  });
  const running = maintenance.run();
  t.teardown(() => stop.abort());
  await waitFor('the first look', () => looks === 1);
  t.is(measured, 0);
  files = 1_000;
  await waitFor('the second look', () => looks === 2);
  t.is(measured, 1);
  t.is(files, 0);
  files = 999;
  await waitFor('the third look', () => looks === 3);
  t.is(measured, 1);
  stop.abort();
  await running;
});
