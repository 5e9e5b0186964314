/** Policies and questions for properties, and a model of the policy so plain that a reader can check it. */
import fc from 'fast-check';
import { type PolicyDocument, type Rule, verbs } from '../../../services/authz/policy/document.ts';
import type { OriginTerms } from '../../../services/authz/policy/origin-terms.ts';
import type { PrefixQuestion, Question } from '../../../services/authz/policy/policy.ts';

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

const originPrefixes = ['a/', 'a/b/', 'b/', 'ab/', 'x/', 'x/a/', 'x/ab/', 'z/'];
/** With prefixes that do not overlap, as the document requires. */
export const origins: fc.Arbitrary<OriginTerms[]> = fc
  .shuffledSubarray(originPrefixes)
  .map((chosen) =>
    chosen.filter((prefix, index) => !chosen.slice(0, index).some((other) => prefix.startsWith(other) || other.startsWith(prefix))),
  )
  .map((chosen) =>
    chosen.map((prefix, index) => ({
      prefix,
      fill: { origin: `o${index}`, share: undefined, revalidateSeconds: undefined, isPrefetch: false },
    })),
  );

export function documentOf(given: readonly Rule[], byDefault: PolicyDocument['default'] = 'deny'): PolicyDocument {
  return { mode: 'enforce', default: byDefault, limits: {}, rules: given, overrides: [], tests: [] };
}

/**
 * Of all rules that are about the question, a rule that denies decides; otherwise a rule that allows; otherwise the default, which never gives FILL
 * or LIST.
 */
export function isAllowedByModel(document: PolicyDocument, question: Question): boolean {
  const hits = rulesFor(document, question, (prefix) => question.key.startsWith(prefix));
  if (hits.some(({ effect }) => effect === 'deny')) return false;
  return hits.length > 0 || (document.default === 'allow' && question.verb !== 'FILL' && question.verb !== 'LIST');
}

/** One allow rule covers all keys under the prefix, and no deny rule covers one of them. */
export function isAllowedOverByModel(document: PolicyDocument, question: PrefixQuestion): boolean {
  const { prefix } = question;
  const covering = rulesFor(document, question, (each) => prefix.startsWith(each));
  const touching = rulesFor(document, question, (each) => prefix.startsWith(each) || each.startsWith(prefix));
  return covering.some(({ effect }) => effect === 'allow') && !touching.some(({ effect }) => effect === 'deny');
}

function rulesFor(
  { rules: given }: PolicyDocument,
  { identity, labels: found, verb }: Omit<Question, 'key'>,
  isAbout: (prefix: string) => boolean,
): Rule[] {
  const { namespace, serviceAccount } = identity;
  return given.filter(
    (rule) =>
      rule.verbs.includes(verb) &&
      rule.subjects.some(
        ({ namespaces, namespaceSelector = {}, serviceAccounts }) =>
          (namespaces === undefined || namespaces.some((glob) => toRegExp(glob).test(namespace))) &&
          Object.entries(namespaceSelector).every(([label, value]) => found[label] === value) &&
          (serviceAccounts === undefined || serviceAccounts.some((glob) => toRegExp(glob).test(serviceAccount))),
      ) &&
      rule.keys.some((each) => isAbout(each.replace('{namespace}', namespace).replace('{serviceAccount}', serviceAccount))),
  );
}
