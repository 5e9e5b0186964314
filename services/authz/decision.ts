/** From a request to a decision: what it asks for, who asks, and whether that is allowed. */
import { parseTarget } from '../shared/key.ts';
import { rememberAccess } from './access.ts';
import type { Grant } from './grant.ts';
import type { Identity, Resolution } from './identity.ts';
import { longestTokenBytes } from './jwt.ts';
import type { Labels, Policy } from './policy.ts';
import { type Limits, verbs } from './policy-document.ts';
import type { Excess } from './rate.ts';

export interface Question {
  readonly method: string;
  /** The request target as Envoy normalised it, query included. */
  readonly target: string;
  /** Undefined where there is not exactly one bearer token. */
  readonly token: string | undefined;
  /** Undefined without that header. */
  readonly contentLength: number | undefined;
}

/** How the next policy would decide, where that is otherwise. */
export interface ShadowDifference {
  readonly next: 'allow' | 'deny';
  readonly nextRule: string;
}

export type Decision =
  | {
      readonly kind: 'allow';
      readonly identity: Identity;
      readonly rule: string;
      readonly cached: boolean;
      readonly maxObjectBytes: number;
      readonly maxShare: number | undefined;
      /** The policy denies it, in a dry run. */
      readonly wouldDeny: boolean;
      readonly difference: ShadowDifference | undefined;
      readonly grant: Grant | undefined;
      /** Envoy has to tell how many bytes are transferred. */
      readonly countsBytes: boolean;
    }
  | { readonly kind: 'unauthenticated'; readonly reason: string }
  | {
      readonly kind: 'forbidden';
      readonly reason: string;
      readonly identity: Identity;
      readonly rule: string;
      readonly difference: ShadowDifference | undefined;
    }
  | { readonly kind: 'no-such-path' }
  | { readonly kind: 'bad-key' }
  | { readonly kind: 'bad-method'; readonly allowed: readonly string[] }
  | { readonly kind: 'too-large'; readonly maxObjectBytes: number }
  | { readonly kind: 'too-many-requests'; readonly identity: Identity; readonly excess: Excess }
  | { readonly kind: 'unavailable'; readonly reason: string }
  | { readonly kind: 'no-policy' };

export type Decide = (question: Question) => Promise<Decision>;

export function createDecide({
  resolve,
  policy: inForce,
  next,
  version,
  labelsOf,
  admit,
  grantSeconds,
  now,
}: {
  resolve: (token: string) => Promise<Resolution>;
  policy: () => Policy | undefined;
  /** The policy that is evaluated in the shadow. */
  next: () => Policy | undefined;
  /** Of the policy in force. */
  version: () => string;
  labelsOf: (namespace: string) => Labels;
  /** Counts a request of a namespace, or says which of its limits is used up. */
  admit: (namespace: string, limits: Limits) => Excess | undefined;
  /** How long Envoy may reuse an allow; 0 = not at all. */
  grantSeconds: number;
  /** In milliseconds since the epoch. */
  now: () => number;
}): Decide {
  const accessOf = rememberAccess();
  return async ({ method, target, token, contentLength }) => {
    if (token === undefined) return { kind: 'unauthenticated', reason: 'one Authorization header with a bearer token is needed' };
    if (token.length > longestTokenBytes) return { kind: 'unauthenticated', reason: `a token has at most ${longestTokenBytes} bytes` };
    const parsed = parseTarget(target);
    if (parsed.kind === 'other-path') return { kind: 'no-such-path' };
    if (parsed.kind === 'bad-key') return { kind: 'bad-key' };
    const verb = verbs.find((candidate) => candidate === method);
    if (verb === undefined) return { kind: 'bad-method', allowed: verbs };

    const resolution = await resolve(token);
    if (resolution.kind === 'refused') return { kind: 'unauthenticated', reason: resolution.reason };
    if (resolution.kind === 'unavailable') return resolution;
    const { identity, cached } = resolution;
    const policy = inForce();
    if (policy === undefined) return { kind: 'no-policy' };
    const { key } = parsed;
    const access = accessOf(identity, { policy, next: next(), labels: labelsOf(identity.namespace), version: version() });
    const { allowed, rule, limits } = access.inForce.decide({ verb, key });
    const other = access.next?.decide({ verb, key });
    const difference = other !== undefined && other.allowed !== allowed ? { next: word(other.allowed), nextRule: other.rule } : undefined;
    if (!allowed && policy.document.mode === 'enforce') {
      const reason = `the policy does not let ${identity.namespace}/${identity.serviceAccount} ${verb} this key`;
      return { kind: 'forbidden', reason, identity, rule, difference };
    }
    const { maxObjectBytes, share, bytesPerSecond } = limits;
    const excess = policy.document.mode === 'enforce' ? admit(identity.namespace, limits) : undefined;
    if (excess !== undefined) return { kind: 'too-many-requests', identity, excess };
    if (verb === 'PUT' && contentLength !== undefined && contentLength > maxObjectBytes) return { kind: 'too-large', maxObjectBytes };
    const seconds = Math.min(grantSeconds, Math.floor((resolution.goodUntil - now()) / 1000));
    const grant = access.grantFor(seconds);
    const countsBytes = bytesPerSecond !== undefined;
    return { kind: 'allow', identity, rule, cached, maxObjectBytes, maxShare: share, wouldDeny: !allowed, difference, grant, countsBytes };
  };
}

function word(allowed: boolean): 'allow' | 'deny' {
  return allowed ? 'allow' : 'deny';
}
