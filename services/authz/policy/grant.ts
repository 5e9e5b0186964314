/** Pure: a grant: what Envoy may let an identity do for a few seconds without asking again. What it does not allow is asked, never refused by it. */

import type { FillTerms } from '../../shared/signed-terms.ts';
import { isRateLimited, type Method, methods } from './document.ts';
import type { OriginTerms } from './origin-terms.ts';
import type { Access } from './policy.ts';

type Prefixes = Readonly<Record<Method, readonly string[]>> & {
  /** Those with keys of an origin in `through`. */
  readonly FILL?: readonly string[];
};

/**
 * What every Pod of a ServiceAccount is granted. A key is granted under one of `allowed` and under none of `denied`. Rights over a prefix are
 * never granted.
 */
export interface GrantScope {
  readonly allowed: Prefixes;
  readonly denied: Prefixes;
  /** The origins with a key that the identity may read and fill. Absent without any. */
  readonly through?: readonly { readonly prefix: string; readonly fill: FillTerms }[];
  readonly seconds: number;
  /** Version of the policy in force. */
  readonly policy: string;
}

/** As one caller gets it: with the headers for the shard. */
export interface Grant extends Omit<GrantScope, 'through'> {
  /** `x-kura-caller` */
  readonly caller: string;
  /** `x-kura-terms`; they hold longer than the grant. */
  readonly terms: string;
  /** The terms for keys of an origin under `/through/`. */
  readonly through?: readonly { readonly prefix: string; readonly terms: string }[];
}

interface GrantRequest {
  /** Under the policy in force, then under those that are only counted: a grant covers nothing on which they differ. */
  readonly accesses: readonly [Access, ...Access[]];
  readonly origins: readonly OriginTerms[];
  readonly version: string;
  /** How long it may be reused; 0 or less = no grant. */
  readonly seconds: number;
}

/** Over all verbs and origins: Envoy compares them one by one. */
const maxPrefixes = 64;
/** Each has signed terms of some 200 bytes in each grant. */
const maxOrigins = 16;

/** None where there is nothing to grant, too much to compare, or a rate that only authz can count. */
export function grantOf({ accesses, origins, version, seconds }: GrantRequest): GrantScope | undefined {
  if (!(seconds > 0) || isRateLimited(accesses[0].limits)) return undefined;
  const undecided = undecidedFills(accesses, origins);
  const granted = byMethod((method) => {
    const denied = accesses.flatMap((access) => access.denied[method]);
    const isRead = method === 'GET' || method === 'HEAD';
    return reduced(accesses.map((access) => shortest(access.allowed[method])).reduce(common), isRead ? [...denied, ...undecided] : denied);
  });
  const fill = fillsOf(accesses[0]);
  const through = origins.filter(
    ({ prefix }) => isTouched(fill, prefix) && (isTouched(granted.GET, prefix) || isTouched(granted.HEAD, prefix)),
  );
  if (methods.every((method) => granted[method].allowed.length === 0) || through.length > maxOrigins) return undefined;
  const ofOrigins = (prefixes: readonly string[]) =>
    prefixes.filter((each) => through.some(({ prefix }) => common([each], [prefix]).length > 0));
  const lists = through.length === 0 ? granted : { ...granted, FILL: { allowed: ofOrigins(fill.allowed), denied: ofOrigins(fill.denied) } };
  const count = Object.values(lists).reduce((sum, { allowed, denied }) => sum + allowed.length + denied.length, through.length);
  if (count > maxPrefixes) return undefined;
  const scope = { allowed: side(lists, 'allowed'), denied: side(lists, 'denied'), seconds, policy: version };
  return through.length === 0 ? scope : { ...scope, through };
}

/** Keys under one of `allowed` and under none of `denied`. */
interface Lists {
  readonly allowed: readonly string[];
  readonly denied: readonly string[];
}

function side(lists: Readonly<Record<Method, Lists>> & { readonly FILL?: Lists }, name: keyof Lists): Prefixes {
  return Object.fromEntries(Object.entries(lists).map(([verb, each]) => [verb, each[name]])) as Prefixes;
}

function byMethod(of: (method: Method) => Lists): Record<Method, Lists> {
  return { GET: of('GET'), HEAD: of('HEAD'), PUT: of('PUT'), DELETE: of('DELETE') };
}

function fillsOf({ allowed, denied }: Access): Lists {
  return reduced(shortest(allowed.FILL), denied.FILL);
}

/** The origins for which the policies differ about FILL. Envoy has to ask for each read there, because authz counts the difference. */
function undecidedFills(accesses: GrantRequest['accesses'], origins: readonly OriginTerms[]): string[] {
  if (accesses.length === 1) return [];
  const fills = accesses.map(fillsOf);
  return origins
    .map(({ prefix }) => prefix)
    .filter((prefix) => new Set(fills.map((fill) => JSON.stringify(within(fill, prefix)))).size > 1);
}

function isTouched(lists: Lists, prefix: string): boolean {
  return within(lists, prefix).allowed.length > 0;
}

/** The same for keys under `prefix` alone. */
function within({ allowed, denied }: Lists, prefix: string): Lists {
  const lists = reduced(common(allowed, [prefix]), common(denied, [prefix]));
  return { allowed: lists.allowed.toSorted(), denied: lists.denied.toSorted() };
}

/** Without prefixes that change nothing. */
function reduced(allowed: readonly string[], denied: readonly string[]): Lists {
  const strongest = shortest(denied);
  const left = allowed.filter((prefix) => !isUnder(prefix, strongest));
  return { allowed: left, denied: strongest.filter((prefix) => isUnder(prefix, left)) };
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
