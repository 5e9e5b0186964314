import test from 'ava';
import { rememberAccess } from '../../../services/authz/policy/access.ts';
import type { Rule } from '../../../services/authz/policy/document.ts';
import { compilePolicy, type Policy } from '../../../services/authz/policy/policy.ts';
import { documentOf } from '../support/generated.ts';

const identity = { namespace: 'a', serviceAccount: 'b' };

function policyOf(...rules: Partial<Rule>[]): Policy {
  const whole = rules.map((rule): Rule => ({ name: 'r', effect: 'allow', subjects: [{}], verbs: ['GET'], keys: ['a/'], ...rule }));
  const compiled = compilePolicy(documentOf(whole));
  if (compiled.kind === 'rejected') throw new Error(JSON.stringify(compiled.problems));
  return compiled.policy;
}

test('an access, and its grant for a number of seconds, is the same object until an input changes', (t) => {
  const accessOf = rememberAccess();
  const circumstances = { policy: policyOf({}), next: undefined, labels: {}, origins: [], version: '1' };
  const access = accessOf(identity, { ...circumstances });
  t.is(accessOf(identity, { ...circumstances }), access);
  t.not(access.grantFor(5), undefined);
  t.is(access.grantFor(5), access.grantFor(5));
  t.is(access.grantFor(4)?.seconds, 4);
  t.is(access.grantFor(5)?.seconds, 5);
  t.is(access.grantFor(0), undefined);
  t.is(accessOf({ ...identity }, { ...circumstances }), access, 'another token of the same ServiceAccount');
  t.not(accessOf({ ...identity, serviceAccount: 'c' }, { ...circumstances }), access);
});

test('the 10,000 newest accesses are cached, and not more', (t) => {
  const accessOf = rememberAccess();
  const circumstances = { policy: policyOf({}), next: undefined, labels: {}, origins: [], version: '1' };
  const of = (index: number) => accessOf({ namespace: 'a', serviceAccount: `s${index}` }, circumstances);
  const [first, second] = [of(0), of(1)];
  for (let index = 2; index <= 10_000; index++) of(index);
  t.is(of(1), second);
  t.not(of(0), first);
});

test('a change of the policy, the next policy, the namespace’s labels or the version takes effect immediately', (t) => {
  const accessOf = rememberAccess();
  const byLabel = policyOf({ subjects: [{ namespaceSelector: { team: 'vision' } }] });
  const before = { policy: byLabel, next: undefined, labels: {}, origins: [], version: '1' };
  const isAllowed = (circumstances: Parameters<typeof accessOf>[1]): boolean =>
    accessOf(identity, circumstances).inForce.decide({ verb: 'GET', key: 'a/x' }).allowed;
  t.false(isAllowed(before));
  t.true(isAllowed({ ...before, labels: { team: 'vision' } }));
  t.false(isAllowed(before));
  t.true(isAllowed({ ...before, policy: policyOf({}) }));
  const open = { ...before, policy: policyOf({}) };
  t.deepEqual(accessOf(identity, { ...open, next: policyOf({ keys: ['a/b/'] }) }).grantFor(5)?.allowed.GET, ['a/b/']);
  t.is(accessOf(identity, { ...open, version: '2' }).grantFor(5)?.policy, '2');
});
