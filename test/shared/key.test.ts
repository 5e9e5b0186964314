import test from 'ava';
import fc from 'fast-check';
import { canonicalKey, parsePrefixTarget } from '../../services/shared/key.ts';
import { keyVectors, nearlyEscapes } from '../support/key-vectors.ts';

const literal = "ABCXYZabcxyz0129-._~!$&'()*+,;=:@";

for (const { input, output } of keyVectors) {
  test(`${input} ${output === null ? 'is refused' : `is spelled ${output}`}`, (t) => {
    t.is(canonicalKey(input) ?? null, output);
  });
}

test('a canonical spelling is its own canonical spelling', (t) => {
  const check = fc.property(fc.oneof(nearlyEscapes, fc.string()), (text) => {
    const spelled = canonicalKey(text);
    return spelled === undefined || canonicalKey(spelled) === spelled;
  });
  t.notThrows(() => fc.assert(check, { numRuns: 2_000 }));
});

test('literal characters never change', (t) => {
  const unit = fc.constantFrom(...literal, '/', '?');
  t.notThrows(() => fc.assert(fc.property(fc.string({ unit }), (text) => canonicalKey(text) === text)));
  const between = fc.property(fc.string({ unit: fc.constantFrom(...literal, '/') }), fc.string({ unit }), (before, after) => {
    return canonicalKey(`${before}%c3${after}`) === `${before}%C3${after}`;
  });
  t.notThrows(() => fc.assert(between));
});

test('any two spellings of one string have one canonical spelling', (t) => {
  const unit = fc.constantFrom(...literal, ' ', '%', '#', '?', '[', '{', '"', '\x01', '\x7f', 'ä', '€', '😀');
  const segment = fc.string({ unit, minLength: 1, maxLength: 8 }).filter((text) => text !== '.' && text !== '..');
  const spelling = fc.infiniteStream(fc.constantFrom('literal', 'lower', 'upper'));
  const check = fc.property(fc.array(segment, { minLength: 1, maxLength: 4 }), spelling, spelling, (segments, one, other) => {
    const [first, second] = [spell(segments, one), spell(segments, other)].map(canonicalKey);
    return first !== undefined && first === second;
  });
  t.notThrows(() => fc.assert(check, { numRuns: 1_000 }));
});

test('two different strings never have one canonical spelling', (t) => {
  const segment = fc.string({ unit: fc.constantFrom('a', '%', '2', '5', '4', '1', ' ', 'ä'), minLength: 1, maxLength: 6 });
  const encoded = (text: string): string | undefined => canonicalKey(encodeURIComponent(text));
  t.notThrows(() => fc.assert(fc.property(segment, segment, (a, b) => (encoded(a) === encoded(b)) === (a === b))));
});

/** One of the ways in which clients write a string into a path. */
function spell(segments: readonly string[], ways: Iterator<string>): string {
  const spellByte = (byte: number): string => {
    const way = ways.next().value;
    const character = String.fromCharCode(byte);
    if (way === 'literal' && literal.includes(character)) return character;
    const digits = byte.toString(16).padStart(2, '0');
    return `%${way === 'lower' ? digits : digits.toUpperCase()}`;
  };
  return segments.map((segment) => [...Buffer.from(segment)].map(spellByte).join('')).join('/');
}

test('the paths of services name a prefix: empty, or a key that ends with a slash; the query belongs to the service', (t) => {
  const prefixOf = (target: string) => {
    const parsed = parsePrefixTarget(target);
    return parsed.kind === 'prefix' ? `${parsed.service} ${parsed.prefix}` : parsed.kind;
  };
  for (const [target, expected] of [
    ['/datasets/', 'datasets '],
    ['/datasets/?keys', 'datasets '],
    ['/datasets/a/b/?keys&after=x/../y', 'datasets a/b/'],
    ['/datasets/a//', 'datasets a//'],
    ['/prefetch/a%3Fb/', 'prefetch a%3Fb/'],
    ['/prefetch/a/?id=1', 'prefetch a/'],
    ['/prefetch/a', 'bad-prefix'],
    ['/prefetch/a?id=1/', 'bad-prefix'],
    ['/prefetch/../a/', 'bad-prefix'],
    ['/prefetch/a/./', 'bad-prefix'],
    ['/prefetch/a b/', 'bad-prefix'],
    [`/prefetch/${'x'.repeat(1_023)}/`, `prefetch ${'x'.repeat(1_023)}/`],
    [`/prefetch/${'x'.repeat(1_024)}/`, 'bad-prefix'],
    ['/prefetch', 'other-path'],
    ['/objects/a/', 'other-path'],
    ['/Datasets/a/', 'other-path'],
  ] as const)
    t.is(prefixOf(target), expected, target);
});
