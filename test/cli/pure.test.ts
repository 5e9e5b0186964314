import test from 'ava';
import fc from 'fast-check';
import { keyOfEncoded, keyOfFile } from '../../services/cli/transfer/file-key.ts';
import { expectedHitRatio, percentile } from '../../services/cli/transfer/transfer-statistics.ts';
import { formatBytes, formatPercent } from '../../services/shared/format.ts';
import { canonicalKey, isKey } from '../../services/shared/key.ts';

test('two different names never get the same key', (t) => {
  const name = fc.string({ unit: fc.constantFrom('a', '/', '%', '7', 'F', '5', 'C', '\\', '\x7f', ' ', 'é', '#', '?') });
  t.notThrows(() => fc.assert(fc.property(name, name, (a, b) => (keyOfFile('p', a) === keyOfFile('p', b)) === (a === b))));
});

test('the key of a file is valid and contains nothing that Envoy rejects or rewrites', (t) => {
  const segment = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 20 })
    .filter((text) => !/[/\0]/.test(text) && text.isWellFormed() && text !== '.' && text !== '..');
  const check = fc.property(fc.array(segment, { minLength: 1, maxLength: 4 }), (segments) => {
    const key = keyOfFile('vision/x', segments.join('/'));
    return isKey(key) && !/%(2F|5C|00)|[\\|^{}"<>`#? ]/i.test(key.replaceAll('%7F5C', ''));
  });
  t.notThrows(() => fc.assert(check));
});

test('a key of a file, and of an encoded key, is canonical', (t) => {
  const text = fc.string({ unit: fc.constantFrom('a', '/', '%', '4', '1', 'e', '.', ' ', 'ä', '+', '(', '?', '[', '\\') });
  t.notThrows(() =>
    fc.assert(
      fc.property(text, (name) => {
        const [ofFile, ofEncoded] = [keyOfFile('vision', name), keyOfEncoded(name)];
        return canonicalKey(ofFile) === ofFile && (ofEncoded === undefined || canonicalKey(ofEncoded) === ofEncoded);
      }),
    ),
  );
});

test('the expected hit ratio is the closed form', (t) => {
  t.is(expectedHitRatio(1), 1);
  t.is(expectedHitRatio(7), 1);
  t.is(formatPercent(expectedHitRatio(0.2)), '2.1 %');
  t.is(formatPercent(expectedHitRatio(0.5)), '15.3 %');
});

test('percentiles are nearest ranks', (t) => {
  const hundred = Float64Array.from({ length: 100 }, (_, index) => index + 1);
  t.deepEqual(
    [percentile(hundred, 0.5), percentile(hundred, 0.99), percentile(hundred, 1), percentile(new Float64Array(), 0.5)],
    [50, 99, 100, 0],
  );
});

test('sizes are formatted with a fitting unit', (t) => {
  t.deepEqual(
    [0, 1023, 1024, 1536, 2 ** 30, 3 * 2 ** 40].map((bytes) => formatBytes(bytes)),
    ['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '1.0 GiB', '3.0 TiB'],
  );
});
