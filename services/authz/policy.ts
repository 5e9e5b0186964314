/** Pure: a compiled AccessPolicy: what an identity may do. Deny beats allow whatever the order of the rules; keys are compared byte for byte. */
import type { Key } from '../shared/key.ts';
import { globMatches, globsOverlap, isGlob } from './glob.ts';
import type { Identity } from './identity.ts';
import type { Limits, PolicyDocument, Rule, Subject, Verb } from './policy-document.ts';
import type { Problem } from './strict-reader.ts';

export type Labels = Readonly<Record<string, string>>;

export interface Verdict {
  readonly allowed: boolean;
  /** The name of the rule that decided, or `default`. */
  readonly rule: string;
  /** Every rule that matched, the deciding one first. */
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

/** All that an identity may do, as prefixes of keys: those of the rules that deny, before those of the rules (or the default) that allow. */
export interface Permissions {
  readonly allowed: Readonly<Record<Verb, readonly string[]>>;
  readonly denied: Readonly<Record<Verb, readonly string[]>>;
  readonly limits: Verdict['limits'];
}

export interface Policy {
  readonly document: PolicyDocument;
  decide(question: Question): Verdict;
  permissions(who: Pick<Question, 'identity' | 'labels'>): Permissions;
}

export type CompiledPolicy =
  | { readonly kind: 'policy'; readonly policy: Policy }
  | { readonly kind: 'rejected'; readonly problems: readonly Problem[] };

/** Where the document sets no limit. */
const defaultMaxObjectBytes = 64 * 2 ** 30;

/** Compiles a document and runs its own tests; one that fails rejects it, as do overrides that would both hold for one namespace. */
export function compilePolicy(document: PolicyDocument): CompiledPolicy {
  const problems: Problem[] = conflictsOf(document).map((message) => ({ line: 1, column: 1, message }));
  const policy: Policy = {
    document,
    decide: (question) => decide(document, question),
    permissions: (who) => permissionsOf(document, who),
  };
  for (const { namespace, serviceAccount, labels, verb, key, expect, line } of document.tests) {
    const { allowed, rule } = policy.decide({ identity: { namespace, serviceAccount }, labels, verb, key });
    const found = allowed ? 'allow' : 'deny';
    if (found !== expect) {
      problems.push({
        line,
        column: 1,
        message: `test failed: ${namespace}/${serviceAccount} ${verb} ${key}: expected ${expect}, found ${found} (rule ${rule})`,
      });
    }
  }
  return problems.length > 0 ? { kind: 'rejected', problems } : { kind: 'policy', policy };
}

function decide(document: PolicyDocument, question: Question): Verdict {
  const matching = document.rules.filter((rule) => matches(rule, question));
  const deciding = matching.find(({ effect }) => effect === 'deny') ?? matching[0];
  const others = matching.filter((rule) => rule !== deciding);
  return {
    allowed: (deciding?.effect ?? document.default) === 'allow',
    rule: deciding?.name ?? 'default',
    matched: [deciding, ...others].flatMap((rule) => (rule === undefined ? [] : [rule.name])),
    limits: limitsOf(document, question.identity.namespace),
  };
}

function permissionsOf(document: PolicyDocument, { identity, labels }: Pick<Question, 'identity' | 'labels'>): Permissions {
  const of = (effect: Rule['effect'], verb: Verb): readonly string[] => {
    const governing = document.rules.filter((rule) => rule.effect === effect && governs(rule, { identity, labels, verb }));
    return governing.flatMap(({ keys }) => keys.map((prefix) => expand(prefix, identity)));
  };
  const byVerb = (read: (verb: Verb) => readonly string[]): Record<Verb, readonly string[]> => {
    return { GET: read('GET'), HEAD: read('HEAD'), PUT: read('PUT'), DELETE: read('DELETE') };
  };
  return {
    allowed: byVerb((verb) => (document.default === 'allow' ? [''] : of('allow', verb))),
    denied: byVerb((verb) => of('deny', verb)),
    limits: limitsOf(document, identity.namespace),
  };
}

function matches(rule: Rule, question: Question): boolean {
  return governs(rule, question) && rule.keys.some((prefix) => question.key.startsWith(expand(prefix, question.identity)));
}

/** Whether the rule is about this identity and verb, whatever the key. */
function governs({ verbs, subjects }: Rule, { identity, labels, verb }: Omit<Question, 'key'>): boolean {
  return verbs.includes(verb) && subjects.some((subject) => isSubject(subject, identity, labels));
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

/** An override by exact name before one by glob; its fields replace those of the document's own limits. */
function limitsOf({ limits, overrides }: PolicyDocument, namespace: string): Verdict['limits'] {
  const exact = overrides.find(({ namespaces }) => namespaces.includes(namespace));
  const override = exact ?? overrides.find(({ namespaces }) => namespaces.some((glob) => globMatches(glob, namespace)));
  return { maxObjectBytes: defaultMaxObjectBytes, ...limits, ...override?.limits };
}

/** Overrides that could both hold for one namespace: the same name twice, or two globs that some name matches. */
function conflictsOf({ overrides }: PolicyDocument): string[] {
  const conflicts: string[] = [];
  for (const [index, { namespaces }] of overrides.entries()) {
    for (const later of overrides.slice(index + 1)) {
      for (const a of namespaces) {
        for (const b of later.namespaces) {
          if (isGlob(a) && isGlob(b) ? globsOverlap(a, b) : a === b)
            conflicts.push(`two overrides hold for the same namespaces: "${a}" and "${b}"`);
        }
      }
    }
  }
  return conflicts;
}
