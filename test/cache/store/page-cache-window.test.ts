import test from 'ava';
import fc from 'fast-check';
import { PageCacheWindow } from '../../../services/cache/store/page-cache-window.ts';

const MiB = 1024 ** 2;

test('nothing used before the start is warm', (t) => {
  const window = new PageCacheWindow({ maxBytes: 100 * MiB, startTick: 50 });
  t.deepEqual(
    [49, 50, 51].map((tick) => window.isWarm(tick)),
    [false, true, true],
  );
});

test('objects used within the window are warm, and objects used before it are not', (t) => {
  const window = new PageCacheWindow({ maxBytes: 100 * MiB, startTick: 0 });
  for (let tick = 1; tick <= 300; tick += 1) window.entered(MiB, tick);
  t.true(window.isWarm(300));
  t.true(window.isWarm(205));
  t.false(window.isWarm(150));
});

test('an object is not warm after more bytes than the window and one mark have entered since its use', (t) => {
  const step = fc.record({ bytes: fc.integer({ min: 1, max: 20 * MiB }), ticks: fc.integer({ min: 0, max: 5 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const maxBytes = 64 * MiB;
      const window = new PageCacheWindow({ maxBytes, startTick: 0 });
      let tick = 1;
      let total = 0;
      const used: { tick: number; total: number }[] = [];
      for (const { bytes, ticks } of steps) {
        tick += ticks;
        used.push({ tick, total });
        total += bytes;
        window.entered(bytes, tick);
      }
      for (const use of used) {
        const since = total - use.total;
        if (since > maxBytes + 21 * MiB) t.false(window.isWarm(use.tick), `${since} bytes have entered since tick ${use.tick}`);
      }
    }),
  );
});

test('it stays between its smallest and its largest size', (t) => {
  const window = new PageCacheWindow({ maxBytes: 200 * MiB, startTick: 0 });
  t.is(window.windowBytes, 200 * MiB);
  window.shrink();
  t.is(window.windowBytes, 150 * MiB);
  for (let times = 0; times < 20; times += 1) window.shrink();
  t.is(window.windowBytes, 32 * MiB);
  window.grow();
  t.is(window.windowBytes, 36 * MiB);
  for (let times = 0; times < 40; times += 1) window.grow();
  t.is(window.windowBytes, 200 * MiB);
});
