/** Policies and questions for properties, and a model of the policy so plain that a reader can check it. */
import fc from 'fast-check';
import { type PolicyDocument, type Rule, verbs } from '../../../services/authz/policy/document.ts';
import type { Question } from '../../../services/authz/policy/policy.ts';

const nameText = fc.constantFrom('a', 'b', 'ab', 'aba', 'ba');
export const globText = fc.string({ unit: fc.constantFrom('a', 'b', '*'), minLength: 1, maxLength: 5 });
export const toRegExp = (glob: string): RegExp => new RegExp(`^${glob.split('*').join('[ab]*')}$`);

const labels = fc.constantFrom({}, { team: 'a' }, { team: 'b', tier: 'a' });
const subject = fc.record(
  {
    namespaces: fc.array(globText, { minLength: 1, maxLength: 2 }),
    namespaceSelector: labels,
    serviceAccounts: fc.array(globText, { minLength: 1, maxLength: 2 }),
  },
  { requiredKeys: [] },
);
const prefix = fc.oneof(
  fc.constantFrom('', 'a/', 'b/', 'a/b/', '{namespace}/', '{namespace}', 'x/{serviceAccount}/'),
  fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 4 }),
);

export const rules = fc.array(
  fc.record({
    name: fc.uuid(),
    effect: fc.constantFrom('allow' as const, 'allow' as const, 'deny' as const),
    subjects: fc.array(subject, { minLength: 1, maxLength: 2 }),
    verbs: fc.subarray([...verbs], { minLength: 1 }),
    keys: fc.array(prefix, { minLength: 1, maxLength: 3 }),
  }),
  { maxLength: 6 },
);

export const who = fc.record({ identity: fc.record({ namespace: nameText, serviceAccount: nameText }), labels });
export const keyText = fc.oneof(
  fc.constantFrom('a/x', 'b/x', 'a/b/x', 'x/a/x', 'x/ab/x', 'ab/x', 'z'),
  fc.string({ unit: fc.constantFrom('a', 'b', '/', 'x'), minLength: 1, maxLength: 7 }),
);

export function documentOf(given: readonly Rule[], byDefault: PolicyDocument['default'] = 'deny'): PolicyDocument {
  return { mode: 'enforce', default: byDefault, limits: {}, rules: given, overrides: [], tests: [] };
}

/** Of all rules that are about the question, one that denies decides; otherwise one that allows; otherwise the default. */
export function isAllowedByModel(
  { rules: given, default: byDefault }: PolicyDocument,
  { identity, labels: found, verb, key }: Question,
): boolean {
  const { namespace, serviceAccount } = identity;
  const hits = given.filter(
    (rule) =>
      rule.verbs.includes(verb) &&
      rule.subjects.some(
        ({ namespaces, namespaceSelector = {}, serviceAccounts }) =>
          (namespaces === undefined || namespaces.some((glob) => toRegExp(glob).test(namespace))) &&
          Object.entries(namespaceSelector).every(([label, value]) => found[label] === value) &&
          (serviceAccounts === undefined || serviceAccounts.some((glob) => toRegExp(glob).test(serviceAccount))),
      ) &&
      rule.keys.some((each) => key.startsWith(each.replace('{namespace}', namespace).replace('{serviceAccount}', serviceAccount))),
  );
  if (hits.some(({ effect }) => effect === 'deny')) return false;
  return hits.length > 0 || byDefault === 'allow';
}
