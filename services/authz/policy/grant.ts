/** Pure: a grant: what Envoy may let an identity do for a few seconds without asking again. What it does not allow is asked, never refused by it. */

import { byVerb, isRateLimited, type Verb, verbs } from './document.ts';
import type { Access } from './policy.ts';

type Prefixes = Readonly<Record<Verb, readonly string[]>>;

/** What every Pod of a ServiceAccount is granted. A key is granted under one of `allowed` and under none of `denied`. */
export interface GrantScope {
  readonly allowed: Prefixes;
  readonly denied: Prefixes;
  readonly seconds: number;
  /** Version of the policy in force. */
  readonly policy: string;
}

/** As one caller gets it: with the headers for the shard. */
export interface Grant extends GrantScope {
  /** `x-kura-caller` */
  readonly caller: string;
  /** `x-kura-terms`; they hold longer than the grant. */
  readonly terms: string;
}

interface GrantRequest {
  /** Under the policy in force, then under those that are only counted: a grant covers nothing on which they differ. */
  readonly accesses: readonly [Access, ...Access[]];
  readonly version: string;
  /** How long it may be reused; 0 or less = no grant. */
  readonly seconds: number;
}

/** Over all verbs: Envoy compares them one by one. */
const maxPrefixes = 64;

/** None where there is nothing to grant, too much to compare, or a rate that only authz can count. */
export function grantOf({ accesses, version, seconds }: GrantRequest): GrantScope | undefined {
  if (!(seconds > 0) || isRateLimited(accesses[0].limits)) return undefined;
  const deniedOf = byVerb((verb) => shortest(accesses.flatMap(({ denied }) => denied[verb])));
  const allowed = byVerb((verb) => {
    const everywhere = accesses.map((each) => shortest(each.allowed[verb])).reduce(common);
    return everywhere.filter((prefix) => !isUnder(prefix, deniedOf[verb]));
  });
  const denied = byVerb((verb) => deniedOf[verb].filter((prefix) => isUnder(prefix, allowed[verb])));
  if (count(allowed) === 0 || count(allowed) + count(denied) > maxPrefixes) return undefined;
  return { allowed, denied, seconds, policy: version };
}

function count(prefixes: Prefixes): number {
  return verbs.reduce((sum, verb) => sum + prefixes[verb].length, 0);
}

/** Two prefixes have keys in common only where one begins with the other: those of the longer. */
function common(a: readonly string[], b: readonly string[]): readonly string[] {
  return shortest([...a.filter((prefix) => isUnder(prefix, b)), ...b.filter((prefix) => isUnder(prefix, a))]);
}

/** Without those that lie under another. */
function shortest(prefixes: readonly string[]): readonly string[] {
  const distinct = [...new Set(prefixes)];
  return distinct.filter((prefix) => !distinct.some((other) => other !== prefix && prefix.startsWith(other)));
}

function isUnder(text: string, prefixes: readonly string[]): boolean {
  return prefixes.some((prefix) => text.startsWith(prefix));
}
