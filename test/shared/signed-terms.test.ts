import { createSecretKey } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { parseCaller, readHeaders, signHeaders } from '../../services/shared/signed-terms.ts';

const key = createSecretKey(Buffer.from('first-credential-0123456789'));
const other = createSecretKey(Buffer.from('second-credential-0123456789'));

const name = fc.stringMatching(/^[a-z0-9]([-a-z0-9.]{0,40}[a-z0-9])?$/);
const caller = fc.record({ namespace: name, serviceAccount: name, pod: fc.option(name, { nil: undefined }) });
const share = fc.double({ min: 0.0001, max: 1, noNaN: true });
const fill = fc.record({
  origin: fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/),
  share: fc.option(share, { nil: undefined }),
  revalidateSeconds: fc.option(fc.nat(), { nil: undefined }),
  isPrefetch: fc.boolean(),
});
const terms = fc
  .record({
    maxObjectBytes: fc.nat(2 ** 31).map((bytes) => bytes * 1024),
    maxShare: fc.option(share, { nil: undefined }),
    mayRedirect: fc.boolean(),
    fill: fc.option(fill, { nil: undefined }),
    isManager: fc.boolean(),
    expiresAtSeconds: fc.nat(2 ** 31),
  })
  .map(({ fill: from, isManager, ...rest }) => ({
    ...rest,
    ...(from === undefined ? {} : { fill: from }),
    ...(isManager ? { mayManage: true } : {}),
  }));
/** One character put in, left out or replaced, anywhere. */
const edit = fc.record({
  header: fc.constantFrom('caller' as const, 'terms' as const),
  at: fc.nat(400),
  removed: fc.nat(1),
  added: fc.oneof(fc.constantFrom('', ' ', '=', ';', '/', '-', '0', 'A'), fc.string({ unit: 'binary-ascii', maxLength: 1 })),
});

test('what is signed is read with the same meaning, and no single edit of either header is accepted', (t) => {
  fc.assert(
    fc.property(caller, terms, fc.array(edit, { minLength: 30, maxLength: 30 }), (one, on, edits) => {
      const signed = signHeaders(key, one, on);
      t.deepEqual(readHeaders([key], signed), { kind: 'good', caller: one, terms: on });
      t.deepEqual(readHeaders([other, key], signed), { kind: 'good', caller: one, terms: on });
      t.is(readHeaders([other], signed).kind, 'forged');
      t.is(readHeaders([], signed).kind, 'forged');
      for (const { header, at, removed, added } of edits) {
        const text = signed[header];
        const from = at % (text.length + 1);
        const edited = { ...signed, [header]: text.slice(0, from) + added + text.slice(from + removed) };
        if (edited[header] !== text && readHeaders([key], edited).kind === 'good') throw new Error(JSON.stringify(edited));
      }
    }),
    { numRuns: 500 },
  );
});

test('every spelling of the last character of a signature but one is forged', (t) => {
  const signed = signHeaders(key, { namespace: 'a', serviceAccount: 'b', pod: undefined }, onTerms());
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=';
  const good = [...letters].filter(
    (letter) => readHeaders([key], { ...signed, terms: signed.terms.slice(0, -1) + letter }).kind === 'good',
  );
  t.deepEqual(good, [signed.terms.at(-1)]);
});

test('without a key nothing is signed, and without keys a signature does not count', (t) => {
  const about = { namespace: 'a', serviceAccount: 'b', pod: 'c' };
  const bare = signHeaders(undefined, about, onTerms());
  t.deepEqual(bare, { caller: 'a/b/c', terms: 'max-object-bytes=1; exp=2' });
  for (const headers of [bare, signHeaders(key, about, onTerms())])
    t.deepEqual(readHeaders(undefined, headers), { kind: 'good', caller: about, terms: onTerms() });
  t.is(readHeaders([key], bare).kind, 'malformed');
});

test('a name that would be read otherwise is not signed', (t) => {
  for (const wrong of ['', 'a/b', 'a b', 'a\n', 'é', 'x'.repeat(254)])
    t.throws(() => signHeaders(key, { namespace: wrong, serviceAccount: 'b', pod: undefined }, onTerms()), {
      message: /the name .* is not 1 to 253/,
    });
  for (const wrong of ['', 'a', 'a/b', 'a/b/', 'a/b/c/d', 'a//c', 'a/b/c ', 'a/b/c\n']) t.is(parseCaller(wrong), undefined, wrong);
  t.deepEqual(parseCaller('a/b/-'), { namespace: 'a', serviceAccount: 'b', pod: undefined });
});

test('a share is read back exactly, and is above 0 and at most 1', (t) => {
  const read = (share: string) => {
    const found = readHeaders(undefined, { caller: 'a/b/-', terms: `max-object-bytes=1; max-share=${share}; exp=2` });
    return found.kind === 'good' ? found.terms.maxShare : found.kind;
  };
  t.is(read('1'), 1);
  t.is(read('0.25'), 0.25);
  for (const wrong of ['0', '1.5', '-1', 'x', '', '0.5, 0.5', '1e-3']) t.is(read(wrong), 'malformed', wrong);
  fc.assert(fc.property(fc.double({ min: 0.0001, max: 1, noNaN: true }), (share) => read(String(share)) === share));
});

test('fill terms that are malformed make all terms malformed', (t) => {
  const kindOf = (more: string) => readHeaders(undefined, { caller: 'a/b/-', terms: `max-object-bytes=1; ${more}; exp=2` }).kind;
  t.is(kindOf('fill=a; fill-share=0.5; revalidate=60; prefetch=yes'), 'good');
  t.is(kindOf('manage=yes'), 'good');
  for (const wrong of [
    'manage=no',
    'manage=yes; manage=yes',
    'fill=A',
    'fill=a; fill-share=2',
    'fill=a; revalidate=1m',
    'fill=a; prefetch=no',
    'fill=a; fill=b',
  ])
    t.is(kindOf(wrong), 'malformed', wrong);
});

function onTerms() {
  return { maxObjectBytes: 1, maxShare: undefined, mayRedirect: true, expiresAtSeconds: 2 };
}
