import test from 'ava';
import fc from 'fast-check';
import { encodeName, originPath } from '../../services/origin/sources/origin-path.ts';
import { canonicalKey } from '../../services/shared/key.ts';

test('every file name survives the way to a key and back, and its spelling is canonical', (t) => {
  const segment = fc
    .uint8Array({ minLength: 1, maxLength: 20 })
    .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 1 : byte))));
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 4 }), (segments) => {
      fc.pre(segments.every((name) => !['.', '..'].includes(name.toString('latin1')) && !name.includes(0x5c)));
      const name = Buffer.from(segments.map((part) => part.toString('latin1')).join('/'), 'latin1');
      const encoded = encodeName(name);
      t.deepEqual(originPath(encoded, { hasQuery: false })?.bytes, name);
      t.is(canonicalKey(encoded), encoded);
    }),
  );
});

test('no spelling leads to a dot segment, a slash or a NUL by decoding', (t) => {
  fc.assert(
    fc.property(fc.stringMatching(/^([a./?]|%2[eEfF]|%00|%5c|%41)+$/), (encoded) => {
      const path = originPath(encoded, { hasQuery: false });
      if (path === undefined) return;
      const name = path.bytes.toString('latin1');
      t.false(/(^|\/)\.\.?(\/|$)/.test(name) || name.includes('\0'));
      t.is(name.split('/').length, encoded.split('/').length);
    }),
  );
});
