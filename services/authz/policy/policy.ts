/** Pure: a compiled AccessPolicy. A deny rule overrides allow rules in any order. Keys are compared byte for byte. */
import type { Key } from '../../shared/key.ts';
import type { Problem } from '../../shared/strict-reader.ts';
import type { Identity } from '../identity/identity.ts';
import { byVerb, type Limits, needsRule, type PolicyDocument, type Rule, type Subject, type Verb } from './document.ts';
import { globMatches, globsOverlap, isGlob } from './glob.ts';

export type Labels = Readonly<Record<string, string>>;

export interface Verdict {
  readonly allowed: boolean;
  /** The name of the rule that decided, or `default`. */
  readonly rule: string;
  /** Every rule that matched; the deciding rule comes first. */
  readonly matched: readonly string[];
  readonly limits: Limits & { readonly maxObjectBytes: number };
}

export interface Question {
  readonly identity: Pick<Identity, 'namespace' | 'serviceAccount'>;
  /** Labels of the identity's namespace. */
  readonly labels: Labels;
  readonly verb: Verb;
  readonly key: string | Key;
}

/** About all keys under a prefix. */
export interface PrefixQuestion extends Omit<Question, 'key'> {
  readonly prefix: string;
}

/** The compiled permissions of one identity. Rules and templates are evaluated once, so a decision only compares prefixes. */
export interface Access {
  /** Prefixes of keys. A prefix in `denied` overrides those in `allowed`. */
  readonly allowed: Readonly<Record<Verb, readonly string[]>>;
  readonly denied: Readonly<Record<Verb, readonly string[]>>;
  readonly limits: Verdict['limits'];
  decide(question: Pick<Question, 'verb' | 'key'>): Verdict;
  /** Whether one allow rule covers the whole prefix and no deny rule touches it. The default gives no right over a prefix. */
  decideOver(question: Pick<PrefixQuestion, 'verb' | 'prefix'>): Verdict;
}

export interface Policy {
  readonly document: PolicyDocument;
  /** Whether a rule selects namespaces by their labels. */
  readonly needsLabels: boolean;
  decide(question: Question): Verdict;
  decideOver(question: PrefixQuestion): Verdict;
  accessOf(who: Pick<Question, 'identity' | 'labels'>): Access;
}

type CompiledPolicy =
  | {
      readonly kind: 'policy';
      readonly policy: Policy;
      /** Positions of the rules that no test matches. */
      readonly untested: readonly number[];
    }
  | { readonly kind: 'rejected'; readonly problems: readonly Problem[] };

/** Limits for a document that sets none. */
const defaultMaxObjectBytes = 64 * 2 ** 30;
/** Each of them is compared with each other: half a million comparisons take some 50 ms. */
const maxOverrideGlobs = 1_000;
/** No more are worth a report. */
const maxConflicts = 20;

/** Compiles a document and runs its tests. A failed test rejects the document, and so do two overrides for the same namespace. */
export function compilePolicy(document: PolicyDocument): CompiledPolicy {
  const problems: Problem[] = conflictsOf(document).map((message) => ({ line: 1, column: 1, message }));
  const policy: Policy = {
    document,
    needsLabels: document.rules.some(({ subjects }) => subjects.some(({ namespaceSelector }) => namespaceSelector !== undefined)),
    decide: (question) => accessOf(document, question).decide(question),
    decideOver: (question) => accessOf(document, question).decideOver(question),
    accessOf: (who) => accessOf(document, who),
  };
  const tested = new Set<string>();
  for (const test of document.tests) {
    const { namespace, serviceAccount, verb, key, expect, line } = test;
    const { allowed, rule, matched } = decideTest(policy, test);
    for (const name of matched) tested.add(name);
    const found = allowed ? 'allow' : 'deny';
    if (found !== expect) {
      problems.push({
        line,
        column: 1,
        message: `test failed: ${namespace}/${serviceAccount} ${verb} ${key}: expected ${expect}, found ${found} (rule ${rule})`,
      });
    }
  }
  if (problems.length > 0) return { kind: 'rejected', problems };
  return { kind: 'policy', policy, untested: [...document.rules.keys()].filter((index) => !tested.has(document.rules[index]?.name ?? '')) };
}

/** Under the whole policy, or under one without its tests. */
export function decideTest(
  policy: Policy,
  { namespace, serviceAccount, labels, verb, key, isPrefix }: PolicyDocument['tests'][number],
): Verdict {
  const asked = { identity: { namespace, serviceAccount }, labels, verb };
  return isPrefix ? policy.decideOver({ ...asked, prefix: key }) : policy.decide({ ...asked, key });
}

function accessOf(document: PolicyDocument, { identity, labels }: Pick<Question, 'identity' | 'labels'>): Access {
  const limits = limitsOf(document, identity.namespace);
  const rules = document.rules
    .filter(({ subjects }) => subjects.some((subject) => isSubject(subject, identity, labels)))
    .map(({ name, effect, verbs, keys }) => ({ name, effect, verbs, prefixes: keys.map((prefix) => expand(prefix, identity)) }))
    .sort((a, b) => Number(b.effect === 'deny') - Number(a.effect === 'deny'));
  const ruling = byVerb((verb) => rules.filter(({ verbs }) => verbs.includes(verb)));
  const prefixesOf = (effect: Rule['effect']) =>
    byVerb((verb) => ruling[verb].filter((rule) => rule.effect === effect).flatMap(({ prefixes }) => prefixes));
  const [allowed, denied] = [prefixesOf('allow'), prefixesOf('deny')];
  const verdict = (matching: (typeof rules)[number][], byDefault: Rule['effect']): Verdict => ({
    allowed: (matching[0]?.effect ?? byDefault) === 'allow',
    rule: matching[0]?.name ?? 'default',
    matched: matching.map(({ name }) => name),
    limits,
  });
  return {
    allowed: byVerb((verb) => (defaultOf(document, verb) === 'allow' ? [''] : allowed[verb])),
    denied,
    limits,
    decide: ({ verb, key }) => {
      const matching = ruling[verb].filter(({ prefixes }) => prefixes.some((prefix) => key.startsWith(prefix)));
      return verdict(matching, defaultOf(document, verb));
    },
    decideOver: ({ verb, prefix }) => {
      const matching = ruling[verb].filter(({ effect, prefixes }) =>
        prefixes.some((each) => prefix.startsWith(each) || (effect === 'deny' && each.startsWith(prefix))),
      );
      return verdict(matching, 'deny');
    },
  };
}

function defaultOf(document: PolicyDocument, verb: Verb): Rule['effect'] {
  return needsRule(verb) ? 'deny' : document.default;
}

function isSubject({ namespaces, namespaceSelector, serviceAccounts }: Subject, identity: Question['identity'], labels: Labels): boolean {
  return (
    (namespaces?.some((glob) => globMatches(glob, identity.namespace)) ?? true) &&
    Object.entries(namespaceSelector ?? {}).every(([label, value]) => labels[label] === value) &&
    (serviceAccounts?.some((glob) => globMatches(glob, identity.serviceAccount)) ?? true)
  );
}

function expand(prefix: string, { namespace, serviceAccount }: Question['identity']): string {
  return prefix.includes('{') ? prefix.replaceAll('{namespace}', namespace).replaceAll('{serviceAccount}', serviceAccount) : prefix;
}

/** An override with the exact name comes before one with a glob. Its fields replace those of the document's own limits. */
function limitsOf({ limits, overrides }: PolicyDocument, namespace: string): Verdict['limits'] {
  const exact = overrides.find(({ namespaces }) => namespaces.includes(namespace));
  const override = exact ?? overrides.find(({ namespaces }) => namespaces.some((glob) => globMatches(glob, namespace)));
  return { maxObjectBytes: defaultMaxObjectBytes, ...limits, ...override?.limits };
}

/** Overrides that apply to the same namespace: the same name twice, or two globs that can match one name. */
function conflictsOf({ overrides }: PolicyDocument): string[] {
  const names = overrides.flatMap(({ namespaces }, override) => [...new Set(namespaces)].map((text) => ({ text, override })));
  const globs = names.filter(({ text }) => isGlob(text));
  if (globs.length > maxOverrideGlobs) return [`the overrides have ${globs.length} names with *; at most ${maxOverrideGlobs} are possible`];
  const conflicts: string[] = [];
  const conflict = (a: string, b: string): void => {
    conflicts.push(`two overrides apply to the same namespace: "${a}" and "${b}"`);
  };
  const known = new Map<string, number>();
  for (const { text, override } of names) {
    if ((known.get(text) ?? override) !== override) conflict(text, text);
    known.set(text, override);
  }
  for (const [index, a] of globs.entries()) {
    for (const b of globs.slice(index + 1)) {
      if (a.text !== b.text && a.override !== b.override && globsOverlap(a.text, b.text)) conflict(a.text, b.text);
      if (conflicts.length >= maxConflicts) return conflicts;
    }
  }
  return conflicts;
}
