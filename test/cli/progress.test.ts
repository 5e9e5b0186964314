import test from 'ava';
import fc from 'fast-check';
import { progressLine } from '../../services/cli/output/progress-line.ts';
import { describe, TransferStatistics } from '../../services/cli/transfer/transfer-statistics.ts';
import { AverageRate } from '../../services/shared/average-rate.ts';

const state = {
  label: 'warm',
  done: { objects: 9_000, bytes: 30 * 2 ** 20 },
  total: { objects: 20_000, bytes: 60 * 2 ** 20 },
  perSecond: { objects: 233, bytes: 700_000 },
  secondsLeft: 47,
  waitReason: '',
};

test('the progress line names share, count, time left and both rates', (t) => {
  t.is(
    progressLine(state, 120),
    `warm ${'█'.repeat(13)}${'░'.repeat(17)} 45 % · 9,000 of 20,000 · 47 s left · 683.6 KiB/s · 233 objects/s`,
  );
  t.is(
    progressLine({ ...state, waitReason: '429: 8 of 16 workers, wait 3 s' }, 120),
    `warm ${'█'.repeat(7)}${'░'.repeat(9)} 45 % · 9,000 of 20,000 · 429: 8 of 16 workers, wait 3 s · 47 s left · 683.6 KiB/s · 233 objects/s`,
  );
  t.is(progressLine({ ...state, label: 'put', total: undefined, secondsLeft: undefined }, 80), 'put 30.0 MiB · 683.6 KiB/s');
});

test('the progress line fits, and its time is never 60 seconds of a minute', (t) => {
  const amount = fc.record({ objects: fc.nat(10_000_000), bytes: fc.nat({ max: 2 ** 50 }) });
  const line = fc.record({
    label: fc.constantFrom('warm', 'verify', 'epoch 1000'),
    done: amount,
    total: amount,
    perSecond: amount,
    secondsLeft: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true }), { nil: undefined }),
    waitReason: fc.constantFrom('', '429: 512 of 1024 workers, wait 60 s', 'no response for 10 s'),
  });
  const check = fc.property(line, fc.integer({ min: 60, max: 200 }), (each, columns) => {
    const text = progressLine(each, columns);
    return text.length < columns && !/\dm\d/.test(text);
  });
  t.notThrows(() => fc.assert(check));
});

test('the rate is that of the last 30 s, and the time left counts objects and bytes', (t) => {
  const rate = new AverageRate(0);
  t.is(rate.secondsLeft(0, { objects: 10, bytes: 10 }), undefined);
  // A minute at 100 objects/s, then a minute at 10 objects/s.
  let objects = 0;
  for (let second = 1; second <= 120; second++) {
    objects += second <= 60 ? 100 : 10;
    rate.add(second * 1000, { objects, bytes: objects * 1000 });
  }
  t.deepEqual(rate.perSecond(120_000), { objects: 10, bytes: 10_000 });
  t.is(rate.secondsLeft(120_000, { objects: objects + 100, bytes: (objects + 100) * 1000 }), 10);

  // An upload that is sent again.
  const again = new AverageRate(0);
  again.add(10_000, { objects: 0, bytes: 10_000 });
  again.add(11_000, { objects: 0, bytes: 100 });
  again.add(12_000, { objects: 0, bytes: 1_100 });
  t.is(again.perSecond(12_000).bytes, 1_000);

  // One large file is left after a thousand empty ones: its bytes count, not its number.
  const mixed = new AverageRate(0);
  mixed.add(10_000, { objects: 1_000, bytes: 0 });
  t.true((mixed.secondsLeft(10_000, { objects: 1_001, bytes: 2 ** 30 }) as number) > 100);
});

test('a summary of a part of the files names all of them, in units that fit', (t) => {
  const statistics = new TransferStatistics();
  for (let index = 0; index < 526; index++) statistics.add({ kind: 'hit', retries: 0 }, { name: `${index}`, size: 3_000, tookMs: 2 });
  const labels = { hits: 'identical', misses: 'missing', differences: 'differences' };
  const [line] = describe('verify', statistics.summarize({ total: 20_000, seconds: 2 }), labels);
  t.is(
    line,
    'verify: interrupted: 526 of 20,000 files: 526 identical, 0 missing, 0 failures, 0 differences; 263 objects/s, 770.5 KiB/s; p50 2.0 ms, p99 2.0 ms',
  );
  const [whole] = describe('warm', statistics.summarize({ total: 526, seconds: 2 }), { hits: 'already stored', misses: 'stored' });
  t.regex(whole as string, /^warm: 526 already stored \(100\.0 %\), 0 stored, 0 failures; 263 objects\/s, /);
});
