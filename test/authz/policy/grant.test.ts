import test from 'ava';
import fc from 'fast-check';
import { type PolicyDocument, type Rule, verbs } from '../../../services/authz/policy/document.ts';
import { grantOf } from '../../../services/authz/policy/grant.ts';
import { type Access, compilePolicy, type Policy } from '../../../services/authz/policy/policy.ts';
import { documentOf, isAllowedByModel, keyText, rules, who } from '../support/generated.ts';

const identity = { namespace: 'a', serviceAccount: 'b' };
const rule = (keys: string[], effect: Rule['effect'] = 'allow'): Rule => ({ name: 'r', effect, subjects: [{}], verbs: ['GET'], keys });

function compile(document: Partial<PolicyDocument>): Policy {
  const whole: PolicyDocument = { mode: 'enforce', default: 'deny', limits: {}, rules: [], overrides: [], tests: [], ...document };
  const compiled = compilePolicy(whole);
  if (compiled.kind === 'rejected') throw new Error(JSON.stringify(compiled.problems));
  return compiled.policy;
}

function grant(policies: [Policy, ...Policy[]], { seconds = 5 } = {}) {
  const [first, ...others] = policies;
  const accessOf = (policy: Policy) => policy.accessOf({ identity, labels: {} });
  return grantOf({ accesses: [accessOf(first), ...others.map(accessOf)], version: 'v1', seconds });
}

test('a grant covers only what both the policy in force and the next one allow', (t) => {
  const found = grant([compile({ rules: [rule(['{namespace}/', 'x/'])] }), compile({ rules: [rule(['a/b/']), rule(['a/b/c/'], 'deny')] })]);
  t.deepEqual([found?.allowed.GET, found?.denied.GET], [['a/b/'], ['a/b/c/']]);
  t.deepEqual([found?.allowed.PUT, found?.denied.PUT], [[], []]);
});

test('a grant has at most 64 prefixes; a rate limit, an empty access and zero seconds give none', (t) => {
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

test('a grant allows exactly what a naive model of the policies allows, for every identity', (t) => {
  const document = fc.record({ given: rules, byDefault: fc.constantFrom('allow' as const, 'deny' as const) });
  const asked = fc.array(keyText, { minLength: 10, maxLength: 10 });
  const property = fc.property(document, document, who, asked, (first, second, asker, keys) => {
    const documents = [first, second].map(({ given, byDefault }) => documentOf(given, byDefault)) as [PolicyDocument, PolicyDocument];
    const accesses = documents.map((each) => compile(each).accessOf(asker)) as [Access, Access];
    const granted = grantOf({ accesses, version: 'v1', seconds: 5 });
    return verbs.every((verb) =>
      keys.every((key) => {
        const isUnder = (prefixes: readonly string[] = []) => prefixes.some((each) => key.startsWith(each));
        const isAllowed = documents.every((each) => isAllowedByModel(each, { ...asker, verb, key }));
        const isGranted = isUnder(granted?.allowed[verb]) && !isUnder(granted?.denied[verb]);
        // No grant: nothing is allowed, or there are too many prefixes; either way authz is asked.
        return granted === undefined || isGranted === isAllowed;
      }),
    );
  });
  t.notThrows(() => fc.assert(property, { numRuns: 1_000 }));
});
