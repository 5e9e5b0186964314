import test from 'ava';
import fc from 'fast-check';
import { formatQuantity, parseQuantity } from '../../services/shared/quantity.ts';

test('quantities have the units of Kubernetes, and other strings are rejected', (t) => {
  t.deepEqual(['7', '2K', '2Ki', '3M', '4Gi', '1T', '0'].map(parseQuantity), [7, 2_000, 2_048, 3e6, 2 ** 32, 1e12, 0]);
  for (const text of ['', '12 GB', '1.5Gi', '-1', '1Pi', '1k', '1KiB', 'Gi', '1e3', '1'.repeat(16)])
    t.is(parseQuantity(text), undefined, text);
});

test('a formatted quantity parses to the same number', (t) => {
  t.deepEqual([1, 1_000, 2_048, 2 ** 30, 2 ** 30 + 1].map(formatQuantity), ['1', '1000', '2Ki', '1Gi', '1073741825']);
  t.notThrows(() => fc.assert(fc.property(fc.nat(), (bytes) => parseQuantity(formatQuantity(bytes)) === bytes)));
});
