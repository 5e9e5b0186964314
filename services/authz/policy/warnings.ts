/** Pure: warnings about rules that are valid, and probably mean something else. */
import type { PolicyDocument, Rule, Subject } from './document.ts';
import { globMatches, isGlob } from './glob.ts';

export interface Warning {
  /** Of the node in the document, such as `rules`, 0, `keys`, 1. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** What the name of a namespace looks like (RFC 1123). */
const namespaceName = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** A prefix of the namespace's name with a slash, or without. */
const ownPrefix = /^\{namespace\}(\/|$)/;

/** Each prefix is compared with each of them. Beyond, a warning may be missing. */
const maxOwnerGlobs = 100;

/** `untested`: positions of the rules that no test of the document matches. */
export function warningsOf(document: PolicyDocument, untested: readonly number[]): Warning[] {
  const owners = ownersOf(document);
  const named = namedNamespaces(document);
  return document.rules.flatMap((rule, index) => {
    const warn = (path: readonly (string | number)[], message: string): Warning => ({
      path: ['rules', index, ...path],
      message: `rule ${rule.name}: ${message}`,
    });
    return [
      ...(untested.includes(index) ? [warn([], 'no test of the document matches this rule')] : []),
      ...rule.subjects.flatMap((subject, at) => subjectWarnings(rule, subject).map((message) => warn(['subjects', at], message))),
      ...rule.keys.flatMap((prefix, at) =>
        [...formWarnings(prefix), ...ownerWarnings(rule, prefix, { owners, named })].map((message) => warn(['keys', at], message)),
      ),
    ];
  });
}

function subjectWarnings({ effect }: Rule, { namespaces, namespaceSelector, serviceAccounts }: Subject): string[] {
  if (effect === 'deny' || serviceAccounts === undefined || namespaces !== undefined || namespaceSelector !== undefined) return [];
  return ['the subject has serviceAccounts alone, and every namespace can have a ServiceAccount of such a name; add namespaces'];
}

/** A prefix that covers other keys than it seems to. */
function formWarnings(prefix: string): string[] {
  const warnings: string[] = [];
  const add = (why: string): void => {
    warnings.push(`the prefix "${prefix}" ${why}`);
  };
  if (prefix.startsWith('/')) add('begins with /, but keys do not; leave it out');
  if (prefix.includes('*')) add('contains *, which is an ordinary character here; a prefix needs no *');
  if (prefix !== '' && !prefix.endsWith('/')) add(`does not end in /, so it also covers "${prefix}x"`);
  return warnings;
}

interface Owners {
  /** The rules that give each namespace the prefix of its name, by the glob of the namespaces. */
  readonly owners: ReadonlyMap<string, string>;
  readonly named: ReadonlySet<string>;
}

/** A prefix that a namespace or a ServiceAccount owns by its name alone. A deny rule takes from its owner, and gives nothing. */
function ownerWarnings({ effect, subjects }: Rule, prefix: string, { owners, named }: Owners): string[] {
  if (effect === 'deny') return [];
  const [segment = ''] = prefix.split('/', 1);
  const hasAccount = prefix.includes('{serviceAccount}');
  if (hasAccount && (segment.includes('{serviceAccount}') || !prefix.includes('{namespace}')) && !isOneNamespace(subjects))
    return [`the prefix "${prefix}" has {serviceAccount} without {namespace} before it, so namespaces with equal ServiceAccounts share it`];
  const name = segment.replaceAll('{namespace}', 'x').replaceAll('{serviceAccount}', 'x');
  if (segment === '{namespace}' || named.has(segment) || !namespaceName.test(name)) return [];
  const [, owner] = [...owners].find(([glob]) => globMatches(glob, name)) ?? [];
  if (owner === undefined) return [];
  return [
    `the prefix "${prefix}" belongs to the namespace "${segment}" too, by rule ${owner}, as soon as somebody creates it; ` +
      'begin shared prefixes with _, or name the namespace in a subject or a test',
  ];
}

/** Names without a star are known to the document, and need no warning. */
function ownersOf({ rules }: PolicyDocument): Map<string, string> {
  const owners = new Map<string, string>();
  for (const { name, effect, keys, subjects } of rules) {
    if (effect === 'deny' || !keys.some((key) => ownPrefix.test(key))) continue;
    const globs = subjects.flatMap(({ namespaces = ['*'] }) => namespaces.filter(isGlob));
    for (const glob of globs) if (owners.size < maxOwnerGlobs) owners.set(glob, name);
  }
  return owners;
}

function isOneNamespace(subjects: readonly Subject[]): boolean {
  const names = subjects.map(({ namespaces = [] }) => namespaces);
  return new Set(names.flat()).size === 1 && names.every((each) => each.length > 0 && !each.some(isGlob));
}

/** A document that names a namespace expects it. */
function namedNamespaces({ rules, overrides, tests }: PolicyDocument): Set<string> {
  const subjects = rules.flatMap((rule) => rule.subjects.flatMap(({ namespaces = [] }) => namespaces));
  return new Set([...subjects, ...overrides.flatMap(({ namespaces }) => namespaces), ...tests.map(({ namespace }) => namespace)]);
}
