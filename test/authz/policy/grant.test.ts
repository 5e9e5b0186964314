import test from 'ava';
import fc from 'fast-check';
import { methods, type PolicyDocument, type Rule, type Verb } from '../../../services/authz/policy/document.ts';
import { grantOf } from '../../../services/authz/policy/grant.ts';
import type { OriginTerms } from '../../../services/authz/policy/origin-terms.ts';
import { type Access, compilePolicy, type Policy } from '../../../services/authz/policy/policy.ts';
import type { FillTerms } from '../../../services/shared/signed-terms.ts';
import { documentOf, isAllowedByModel, keyText, origins, rules, who } from '../support/generated.ts';

const identity = { namespace: 'a', serviceAccount: 'b' };
const rule = (keys: string[], effect: Rule['effect'] = 'allow'): Rule => ({ name: 'r', effect, subjects: [{}], verbs: ['GET'], keys });

function compile(document: Partial<PolicyDocument>): Policy {
  const whole: PolicyDocument = { mode: 'enforce', default: 'deny', limits: {}, rules: [], overrides: [], tests: [], ...document };
  const compiled = compilePolicy(whole);
  if (compiled.kind === 'rejected') throw new Error(JSON.stringify(compiled.problems));
  return compiled.policy;
}

const origin = (prefix: string): OriginTerms => ({
  prefix,
  fill: { origin: 'nfs', share: undefined, revalidateSeconds: undefined, isPrefetch: false },
});

function grant(policies: [Policy, ...Policy[]], { seconds = 5, origins: known = [] as readonly OriginTerms[] } = {}) {
  const [first, ...others] = policies;
  const accessOf = (policy: Policy) => policy.accessOf({ identity, labels: {} });
  return grantOf({ accesses: [accessOf(first), ...others.map(accessOf)], origins: known, version: 'v1', seconds });
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

test('through has the origins with a key that the caller may read and fill, and FILL only prefixes of those', (t) => {
  const all = (keys: string[], verbs: Rule['verbs'], effect: Rule['effect'] = 'allow'): Rule => ({ ...rule(keys, effect), verbs });
  const policy = compile({
    rules: [
      all(['a/', '_shared/'], ['GET']),
      all(['a/', '_shared/c/', 'elsewhere/'], ['FILL']),
      all(['_shared/c/secret/'], ['FILL'], 'deny'),
    ],
  });
  const found = grant([policy], { origins: [origin('a/data/'), origin('_shared/b/'), origin('_shared/c/'), origin('elsewhere/')] });
  t.deepEqual(
    found?.through?.map(({ prefix }) => prefix),
    ['a/data/', '_shared/c/'],
  );
  t.deepEqual([found?.allowed.FILL, found?.denied.FILL], [['a/', '_shared/c/'], ['_shared/c/secret/']]);
  const without = grant([policy], { origins: [] });
  t.deepEqual([without?.through, without?.allowed.FILL], [undefined, undefined]);
  t.false('LIST' in (found?.allowed ?? {}));
});

test('the origins of a grant count for its 64 prefixes, and above 16 of them there is no grant', (t) => {
  const policy = (count: number): Policy =>
    compile({
      rules: [
        { ...rule(['']), verbs: ['GET', 'FILL'] },
        rule(
          Array.from({ length: count }, (_, index) => `k${index}/`),
          'deny',
        ),
      ],
    });
  const origins = (count: number) => Array.from({ length: count }, (_, index) => origin(`o${index}/`));
  // Two allowed prefixes, and the rest.
  t.not(grant([policy(46)], { origins: origins(16) }), undefined);
  t.is(grant([policy(47)], { origins: origins(16) }), undefined);
  t.is(grant([policy(0)], { origins: origins(17) }), undefined);
});

test('where the next policy differs about FILL, each read under the origin is asked', (t) => {
  const now = compile({ rules: [{ ...rule(['a/', 'b/']), verbs: ['GET', 'HEAD', 'PUT', 'FILL'] }] });
  const next = compile({
    rules: [
      { ...rule(['a/', 'b/']), verbs: ['GET', 'HEAD', 'PUT'] },
      { ...rule(['b/']), name: 's', verbs: ['FILL'] },
    ],
  });
  const found = grant([now, next], { origins: [origin('a/data/'), origin('b/data/')] });
  t.deepEqual([found?.denied.GET, found?.denied.HEAD, found?.denied.PUT], [['a/data/'], ['a/data/'], []]);
  t.deepEqual(
    found?.through?.map(({ prefix }) => prefix),
    ['b/data/'],
  );
});

test('a grant allows exactly what a naive model of the policies allows, for every identity, and fills exactly what it may fill', (t) => {
  const document = fc.record({ given: rules, byDefault: fc.constantFrom('allow' as const, 'deny' as const) });
  const asked = fc.array(keyText, { minLength: 10, maxLength: 10 });
  let filled = 0;
  const property = fc.property(document, document, fc.boolean(), who, origins, asked, (first, second, hasNext, asker, known, keys) => {
    const documents = [first, ...(hasNext ? [second] : [])].map(({ given, byDefault }) => documentOf(given, byDefault));
    const accesses = documents.map((each) => compile(each).accessOf(asker)) as [Access, ...Access[]];
    const granted = grantOf({ accesses, origins: known, version: 'v1', seconds: 5 });
    // No grant: nothing is allowed, or there are too many prefixes; either way authz is asked.
    if (granted === undefined) return;
    const isUnder = (key: string, prefixes: readonly string[] = []) => prefixes.some((each) => key.startsWith(each));
    for (const key of keys) {
      const votes = (verb: Verb): boolean[] => documents.map((each) => isAllowedByModel(each, { ...asker, verb, key }));
      const origin = known.find(({ prefix }) => key.startsWith(prefix));
      const isDisputed = origin !== undefined && new Set(votes('FILL')).size > 1;
      for (const method of methods) {
        const isRead = method === 'GET' || method === 'HEAD';
        const isGranted = isUnder(key, granted.allowed[method]) && !isUnder(key, granted.denied[method]);
        const isAllowed = votes(method).every(Boolean);
        if (isGranted) t.true(isAllowed && !(isRead && isDisputed));
        // Keys beside a disputed one are asked too.
        else if (origin === undefined || !isRead || documents.length === 1) t.false(isAllowed);
        if (!isGranted || !isRead) continue;
        // As envoy/grants.lua does it.
        const entry = granted.through?.find(({ prefix }) => key.startsWith(prefix));
        const fills = entry !== undefined && isUnder(key, granted.allowed.FILL) && !isUnder(key, granted.denied.FILL);
        t.is(fills, origin !== undefined && votes('FILL').every(Boolean));
        if (fills) t.is(entry.fill, origin?.fill as FillTerms);
        filled += Number(fills);
      }
    }
  });
  fc.assert(property, { numRuns: 2_000 });
  t.true(filled > 100, `${filled}`);
});
