import { createSecretKey, type KeyObject } from 'node:crypto';
import test from 'ava';
import { CallerSigner } from '../../services/authz/caller-signer.ts';
import { byVerb } from '../../services/authz/policy/document.ts';
import { readHeaders } from '../../services/shared/signed-terms.ts';

const [first, second] = ['first-credential-0123456789', 'second-credential-0123456789'].map((text) =>
  createSecretKey(Buffer.from(text)),
) as [KeyObject, KeyObject];
const identity = { namespace: 'vision', serviceAccount: 'trainer', pod: { name: 'p', uid: 'u' } };
const limits = { maxObjectBytes: 9, maxShare: undefined, mayRedirect: true };
const scope = { allowed: byVerb(() => ['vision/']), denied: byVerb(() => []), seconds: 10, policy: 'v1' };

function setting() {
  const world = { keys: [first, second] as readonly KeyObject[] | undefined, now: 1_000_000 };
  return { world, signer: new CallerSigner({ keys: () => world.keys, now: () => world.now }) };
}

test('terms hold for the time of their grant, or for 5 s without one, and for 60 s of clock skew', (t) => {
  const { signer, world } = setting();
  const endOf = (seconds: number | undefined): string | undefined => {
    const signed = signer.sign({ identity, ...limits, scope: seconds === undefined ? undefined : { ...scope, seconds } });
    return /exp=(\d+)/.exec(signed.terms)?.[1];
  };
  t.is(endOf(10), '1070');
  t.is(endOf(1), '1061');
  t.is(endOf(undefined), '1065');
  world.now += 1;
  t.is(endOf(10), '1071', 'never shorter than the grant');
});

test('a grant carries the headers of its allow', (t) => {
  const { signer } = setting();
  const { caller, terms, grant } = signer.sign({ identity, ...limits, scope });
  t.deepEqual(grant, { ...scope, caller, terms });
  t.is(signer.sign({ identity, ...limits, scope: undefined }).grant, undefined);
});

test('a request with an origin has its fill terms, and the grant has them for each origin, with the same end', (t) => {
  const { signer } = setting();
  const fill = { origin: 'nfs', share: 0.5, revalidateSeconds: undefined, isPrefetch: false };
  const ask = (ofRequest: typeof fill | undefined) =>
    signer.sign({ identity, ...limits, fill: ofRequest, scope: { ...scope, through: [{ prefix: 'vision/data/', fill }] } });
  const [filled, plain] = [ask(fill), ask(undefined)];
  t.regex(filled.terms, /^max-object-bytes=9; fill=nfs; fill-share=0\.5; exp=1070; sig=/);
  t.regex(plain.terms, /^max-object-bytes=9; exp=1070; sig=/);
  for (const { grant } of [filled, plain]) {
    t.is(grant?.terms, plain.terms);
    t.deepEqual(grant?.through, [{ prefix: 'vision/data/', terms: filled.terms }]);
  }
});

test('the first key signs, and a new first key signs at once', (t) => {
  const { signer, world } = setting();
  const ask = () => signer.sign({ identity, ...limits, scope });
  const isSignedBy = (key: KeyObject) => readHeaders([key], ask()).kind === 'good';
  t.deepEqual([isSignedBy(first), isSignedBy(second)], [true, false]);
  world.keys = [second, first];
  t.deepEqual([isSignedBy(first), isSignedBy(second)], [false, true]);
  world.keys = undefined;
  t.false(ask().terms.includes('sig='));
});

test('the same request within a second has the same grant; another Pod, limit, scope or second has another', (t) => {
  const { signer, world } = setting();
  const ask = (changes: object = {}) => signer.sign({ identity, ...limits, scope, ...changes });
  const known = ask();
  t.is(ask(), known);
  world.now -= 500;
  t.is(ask(), known);
  for (const changes of [
    { scope: { ...scope } },
    { maxObjectBytes: 8 },
    { maxShare: 0.5 },
    { mayRedirect: false },
    { identity: { ...identity, pod: { name: 'q', uid: 'u' } } },
  ])
    t.not(ask(changes).grant, known.grant, JSON.stringify(changes));
  world.now += 1_000;
  t.not(ask().grant, known.grant);
});

test('no more than 10,000 callers are remembered, those that asked last', (t) => {
  const { signer } = setting();
  const of = (index: number) => signer.sign({ identity: { ...identity, pod: { name: `p-${index}`, uid: 'u' } }, ...limits, scope });
  const [earliest, later] = [of(0), of(1)];
  for (let index = 2; index <= 10_000; index++) of(index);
  t.is(of(1), later);
  t.not(of(0), earliest);
});
