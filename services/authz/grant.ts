/** Pure: a grant: what Envoy may let an identity do for a few seconds without asking again. What it does not allow is asked, never refused by it. */
import type { Labels, Policy, Question, Reach } from './policy.ts';
import { type Verb, verbs } from './policy-document.ts';

/** Per verb, a key is granted under one of `allowed` and under none of `denied`. */
export interface Grant {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly verbs: Readonly<Record<Verb, Reach>>;
  readonly maxObjectBytes: number;
  readonly share: number | undefined;
  readonly policyVersion: string;
  readonly seconds: number;
}

export interface GrantRequest {
  readonly identity: Question['identity'];
  readonly labels: Labels;
  /** The one in force first, then those that are only counted: a grant covers nothing on which they differ. */
  readonly policies: readonly [Policy, ...Policy[]];
  readonly policyVersion: string;
  /** The setting; 0 = no grants. */
  readonly seconds: number;
  /** Until the token or its review expires, whichever is first. */
  readonly remainingSeconds: number;
}

/** Over all verbs: Envoy compares them one by one. */
const mostPrefixes = 64;

/** None where there is nothing to grant, too much to compare, or a rate that only authz can count. */
export function grantOf({ identity, labels, policies, policyVersion, seconds, remainingSeconds }: GrantRequest): Grant | undefined {
  const time = Math.min(seconds, Math.floor(remainingSeconds));
  const { maxObjectBytes, share, requestsPerSecond, bytesPerSecond } = policies[0].limitsOf(identity.namespace);
  if (!(time > 0) || requestsPerSecond !== undefined || bytesPerSecond !== undefined) return undefined;
  const reachOf = (verb: Verb) => agreement(policies.map((policy) => policy.reach({ identity, labels, verb })));
  const granted = { GET: reachOf('GET'), HEAD: reachOf('HEAD'), PUT: reachOf('PUT'), DELETE: reachOf('DELETE') };
  const allowed = verbs.reduce((sum, verb) => sum + granted[verb].allowed.length, 0);
  const denied = verbs.reduce((sum, verb) => sum + granted[verb].denied.length, 0);
  if (allowed === 0 || allowed + denied > mostPrefixes) return undefined;
  const { namespace, serviceAccount } = identity;
  return { namespace, serviceAccount, verbs: granted, maxObjectBytes, share, policyVersion, seconds: time };
}

/** What every one of them allows. */
function agreement(reaches: readonly Reach[]): Reach {
  const everywhere = reaches.map(({ allowed }) => shortest(allowed)).reduce(common);
  const denied = shortest(reaches.flatMap((reach) => reach.denied));
  const allowed = everywhere.filter((prefix) => !isUnder(prefix, denied));
  return { allowed, denied: denied.filter((prefix) => isUnder(prefix, allowed)) };
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
