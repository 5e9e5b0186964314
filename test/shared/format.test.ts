import test from 'ava';
import { formatBytes, formatDuration, formatPercent } from '../../services/shared/format.ts';

test('bytes have one decimal, or none above a limit', (t) => {
  t.deepEqual(
    [0, 1023, 1024, 1536, 200 * 1024, 2 ** 30, 3 * 2 ** 40, 2 ** 50].map((bytes) => formatBytes(bytes)),
    ['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '200.0 KiB', '1.0 GiB', '3.0 TiB', '1.0 PiB'],
  );
  t.deepEqual(
    [1536, 99 * 1024, 100 * 1024].map((bytes) => formatBytes(bytes, { roundFrom: 100 })),
    ['1.5 KiB', '99.0 KiB', '100 KiB'],
  );
});

test('durations and shares are short', (t) => {
  t.deepEqual([0, 45, 720, 27_000, 259_200].map(formatDuration), ['0 s', '45 s', '12 min', '7.5 h', '3.0 d']);
  t.deepEqual([0, 0.021, 1].map(formatPercent), ['0.0 %', '2.1 %', '100.0 %']);
});
