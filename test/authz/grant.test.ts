import test from 'ava';
import fc from 'fast-check';
import { grantOf } from '../../services/authz/grant.ts';
import { compilePolicy, type Policy } from '../../services/authz/policy.ts';
import { type PolicyDocument, type Rule, verbs } from '../../services/authz/policy-document.ts';

const identity = { namespace: 'a', serviceAccount: 'b' };
const rule = (keys: string[], effect: Rule['effect'] = 'allow'): Rule => ({ name: 'r', effect, subjects: [{}], verbs: ['GET'], keys });

function compile(document: Partial<PolicyDocument>): Policy {
  const whole: PolicyDocument = { mode: 'enforce', default: 'deny', limits: {}, rules: [], overrides: [], tests: [], ...document };
  const compiled = compilePolicy(whole);
  if (compiled.kind === 'rejected') throw new Error(JSON.stringify(compiled.problems));
  return compiled.policy;
}

function grant(policies: [Policy, ...Policy[]], { seconds = 5 } = {}) {
  return grantOf({ identity, labels: {}, policies, version: 'v1', seconds });
}

test('a grant covers only what the policy in force and the next one both allow', (t) => {
  const found = grant([compile({ rules: [rule(['{namespace}/', 'x/'])] }), compile({ rules: [rule(['a/b/']), rule(['a/b/c/'], 'deny')] })]);
  t.deepEqual([found?.allowed.GET, found?.denied.GET], [['a/b/'], ['a/b/c/']]);
  t.deepEqual([found?.allowed.PUT, found?.denied.PUT], [[], []]);
});

test('64 prefixes are granted and 65 are not; neither is a limited rate, nothing, or no time', (t) => {
  const keys = Array.from({ length: 65 }, (_, index) => `k${index}/x`);
  const good = compile({ rules: [rule(keys.slice(1))] });
  t.is(grant([good])?.allowed.GET.length, 64);
  t.is(grant([compile({ rules: [rule(keys)] })]), undefined);
  t.is(grant([compile({ rules: [rule(['a/'])], limits: { requestsPerSecond: 9 } })]), undefined);
  t.is(grant([compile({ rules: [rule(['a/'])], limits: { bytesPerSecond: 9 } })]), undefined);
  t.is(grant([compile({})]), undefined);
  t.is(grant([good], { seconds: 0 }), undefined);
  t.is(grant([good], { seconds: -1 }), undefined);
  t.is(grant([good], { seconds: 3 })?.seconds, 3);
});

test('a grant allows exactly what every policy allows', (t) => {
  const prefix = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 4 });
  const key = fc.oneof(prefix, fc.constantFrom('{namespace}/', '{serviceAccount}'));
  const rules = fc.array(
    fc.record({
      name: fc.constant('r'),
      effect: fc.constantFrom('allow' as const, 'allow' as const, 'deny' as const),
      subjects: fc.constantFrom([{}], [{ namespaces: ['a*'] }], [{ serviceAccounts: ['c'] }]),
      verbs: fc.subarray([...verbs], { minLength: 1 }),
      keys: fc.array(key, { minLength: 1, maxLength: 3 }),
    }),
    { maxLength: 5 },
  );
  const policy = fc.record({ rules, default: fc.constantFrom('allow' as const, 'deny' as const) }).map(compile);
  const asked = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 7 }), { minLength: 10, maxLength: 10 });
  fc.assert(
    fc.property(policy, policy, asked, (first, second, keys) => {
      const given = grant([first, second]);
      return verbs.every((verb) =>
        keys.every((text) => {
          const isUnder = (prefixes: readonly string[] = []) => prefixes.some((each) => text.startsWith(each));
          const isAllowed = [first, second].every((each) => each.decide({ identity, labels: {}, verb, key: text }).allowed);
          const isGranted = isUnder(given?.allowed[verb]) && !isUnder(given?.denied[verb]);
          // No grant: nothing is allowed, or there are too many prefixes; either way authz is asked.
          return given === undefined || isGranted === isAllowed;
        }),
      );
    }),
  );
  t.pass();
});
