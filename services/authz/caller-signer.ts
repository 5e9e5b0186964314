/** Signs for the shards who asks and on which terms: the headers of an allow, and those in its grant. */
import type { KeyObject } from 'node:crypto';
import { type FillTerms, formatCaller, type SignedCaller, type SignedTerms, signHeaders } from '../shared/signed-terms.ts';
import type { Identity } from './identity/identity.ts';
import type { Grant, GrantScope } from './policy/grant.ts';

interface CallerSignerOptions {
  /** The first one signs. Undefined: nothing is signed. */
  readonly keys: () => readonly KeyObject[] | undefined;
  /** In milliseconds since the epoch. */
  readonly now: () => number;
}

interface SigningRequest extends Omit<SignedTerms, 'expiresAtSeconds' | 'fill'> {
  readonly identity: Identity;
  readonly scope: GrantScope | undefined;
  /** Of this request. */
  readonly fill?: FillTerms | undefined;
}

/** What a decision allows, as the shard gets it. */
interface SignedDecision {
  readonly caller: string;
  readonly terms: string;
  readonly grant: Grant | undefined;
}

interface Remembered {
  readonly key: KeyObject | undefined;
  readonly request: SigningRequest;
  readonly expiresAtSeconds: number;
  /** Without the fill terms of a request. */
  readonly signed: SignedDecision;
}

/** The clocks of authz and of a shard may differ by so much. */
const maxClockSkewSeconds = 60;
/** The time from a check to its shard where no grant needs more. */
const secondsWithoutGrant = 5;
/** The last decision of so many callers. With 64 prefixes an entry takes some KB. */
const maxRemembered = 10_000;

export class CallerSigner {
  readonly #options: CallerSignerOptions;
  readonly #remembered = new Map<string, Remembered>();

  constructor(options: CallerSignerOptions) {
    this.#options = options;
  }

  /** Returns the same grant object for the same request within a second, so that its encoded form can be kept with it. */
  sign(request: SigningRequest): SignedDecision {
    const { identity, scope, fill, maxObjectBytes, maxShare, mayRedirect } = request;
    const caller = callerOf(identity);
    const name = formatCaller(caller);
    const key = this.#options.keys()?.[0];
    const seconds = (scope?.seconds ?? secondsWithoutGrant) + maxClockSkewSeconds;
    const expiresAtSeconds = Math.ceil(this.#options.now() / 1000) + seconds;
    const headersWith = (terms: { fill?: FillTerms | undefined }) =>
      signHeaders(key, caller, { maxObjectBytes, maxShare, mayRedirect, ...terms, expiresAtSeconds });
    const last = this.#remembered.get(name);
    const isKnown = last !== undefined && last.key === key && last.expiresAtSeconds === expiresAtSeconds && isSame(last.request, request);
    const signed = isKnown ? last.signed : { ...headersWith({}), grant: scope && grantFor(scope, headersWith) };
    if (!isKnown) this.#remember(name, { key, request, expiresAtSeconds, signed });
    return fill === undefined ? signed : { ...signed, ...headersWith({ fill }) };
  }

  #remember(name: string, decision: Remembered): void {
    this.#remembered.delete(name);
    this.#remembered.set(name, decision);
    if (this.#remembered.size > maxRemembered) this.#remembered.delete(this.#remembered.keys().next().value as string);
  }
}

function grantFor(scope: GrantScope, headersWith: (terms: { fill?: FillTerms }) => ReturnType<typeof signHeaders>): Grant {
  const { through, ...lists } = scope;
  const signed = through?.map(({ prefix, fill }) => ({ prefix, terms: headersWith({ fill }).terms }));
  return { ...lists, ...headersWith({}), ...(signed === undefined ? {} : { through: signed }) };
}

function callerOf({ namespace, serviceAccount, pod }: Identity): SignedCaller {
  return { namespace, serviceAccount, pod: pod?.name };
}

/** For the same caller. */
function isSame(a: SigningRequest, b: SigningRequest): boolean {
  return a.scope === b.scope && a.maxObjectBytes === b.maxObjectBytes && a.maxShare === b.maxShare && a.mayRedirect === b.mayRedirect;
}
