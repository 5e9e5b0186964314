/** Decides a request: parses it, resolves the identity of its token, and evaluates the policy. */
import { parseTarget } from '../shared/key.ts';
import type { TraceContext } from '../shared/trace-context.ts';
import type { CallerSigner } from './caller-signer.ts';
import type { Identity, Resolution } from './identity/identity.ts';
import { maxTokenBytes } from './identity/jwt.ts';
import { rememberAccess } from './policy/access.ts';
import { isRateLimited, type Verb, verbs } from './policy/document.ts';
import type { Grant } from './policy/grant.ts';
import type { Labels, Policy } from './policy/policy.ts';
import { refusalText } from './policy/refusal.ts';
import type { Excess } from './rate-limit/rate.ts';
import type { Throttle } from './rate-limit/throttle.ts';

export interface Question {
  readonly method: string;
  /** The request target after Envoy's normalisation, with its query. */
  readonly target: string;
  /** Undefined unless the request has exactly one bearer token. */
  readonly token: string | undefined;
  /** Undefined when the request has no such header. */
  readonly contentLength: number | undefined;
  /** When Envoy received the request, in milliseconds since the epoch. Undefined when Envoy does not send it. */
  readonly receivedAt: number | undefined;
  /** Set only when Envoy makes request ids. */
  readonly requestId?: string | undefined;
  /** Set only when Envoy traces requests. */
  readonly trace?: TraceContext | undefined;
}

/** The decision of the next policy, when it differs from that of the policy in force. */
interface ShadowDifference {
  readonly next: 'allow' | 'deny';
  readonly nextRule: string;
}

export type Decision =
  | {
      readonly kind: 'allow';
      readonly identity: Identity;
      readonly rule: string;
      readonly cached: boolean;
      /** `x-kura-caller` and `x-kura-terms` for the shard. */
      readonly caller: string;
      readonly terms: string;
      /** True when the policy denies the request but runs in dry-run mode. */
      readonly wouldDeny: boolean;
      readonly difference: ShadowDifference | undefined;
      readonly grant: Grant | undefined;
      /** True when Envoy must report the transferred bytes. */
      readonly countsBytes: boolean;
    }
  | { readonly kind: 'unauthenticated'; readonly reason: string }
  | {
      readonly kind: 'forbidden';
      /** For the log, which has the key in another field. */
      readonly reason: string;
      /** For the client. */
      readonly detail: string;
      readonly identity: Identity;
      readonly rule: string;
      readonly difference: ShadowDifference | undefined;
    }
  /** The response to WebDAV's PROPFIND and MKCOL. authz answers these itself; they do not reach a shard. */
  | {
      readonly kind: 'folder';
      readonly answer: 'absent' | 'made';
      readonly identity: Identity;
      readonly rule: string;
      readonly cached: boolean;
    }
  | { readonly kind: 'no-such-path' }
  | { readonly kind: 'bad-key' }
  | { readonly kind: 'bad-method'; readonly allowed: readonly string[] }
  | { readonly kind: 'too-large'; readonly identity: Identity; readonly maxObjectBytes: number }
  | { readonly kind: 'too-many-requests'; readonly identity: Identity; readonly excess: Excess }
  | Extract<Resolution, { kind: 'unavailable' }>
  | { readonly kind: 'no-policy' };

export type Decide = (question: Question) => Promise<Decision>;

/**
 * sccache sends PROPFIND and MKCOL before it writes. kura has no folders, so authz returns a fixed response. These requests are authorized
 * as HEAD or PUT on the same key, so the response reveals nothing.
 */
const folderVerbs: Readonly<Record<string, { readonly as: Verb; readonly answer: 'absent' | 'made' }>> = {
  PROPFIND: { as: 'HEAD', answer: 'absent' },
  MKCOL: { as: 'PUT', answer: 'made' },
};

export function createDecide({
  resolve,
  isLate,
  policy: inForce,
  next,
  version,
  labelsOf,
  throttle,
  signer,
  grantSeconds,
  now,
}: {
  resolve: (token: string, options: { isLate: boolean }) => Promise<Resolution>;
  /** Whether a request that Envoy received then has waited too long. */
  isLate: (receivedAt: number | undefined) => boolean;
  policy: () => Policy | undefined;
  /** The next policy, which is evaluated but not enforced. */
  next: () => Policy | undefined;
  /** Version of the policy in force. */
  version: () => string;
  labelsOf: (namespace: string) => Labels;
  throttle: Throttle;
  signer: Pick<CallerSigner, 'sign'>;
  /** How long Envoy may reuse an allow; 0 = Envoy never reuses it. */
  grantSeconds: number;
  /** In milliseconds since the epoch. */
  now: () => number;
}): Decide {
  const accessOf = rememberAccess();
  return async ({ method, target, token, contentLength, receivedAt }) => {
    if (token === undefined)
      return { kind: 'unauthenticated', reason: 'the request must have exactly one Authorization header with a bearer token' };
    if (token.length > maxTokenBytes) return { kind: 'unauthenticated', reason: `the token is longer than ${maxTokenBytes} bytes` };
    const parsed = parseTarget(target);
    if (parsed.kind === 'other-path') return { kind: 'no-such-path' };
    if (parsed.kind === 'bad-key') return { kind: 'bad-key' };
    const folder = Object.hasOwn(folderVerbs, method) ? folderVerbs[method] : undefined;
    const verb = folder?.as ?? verbs.find((candidate) => candidate === method);
    if (verb === undefined) return { kind: 'bad-method', allowed: verbs };

    const askedAt = now();
    const resolution = await resolve(token, { isLate: isLate(receivedAt) });
    if (resolution.kind === 'refused') return { kind: 'unauthenticated', reason: resolution.reason };
    if (resolution.kind === 'unavailable') return resolution;
    const { identity, cached } = resolution;
    const policy = inForce();
    if (policy === undefined) return { kind: 'no-policy' };
    const { key } = parsed;
    const access = accessOf(identity, { policy, next: next(), labels: labelsOf(identity.namespace), version: version() });
    const { limits } = access.inForce;
    const isEnforced = policy.document.mode === 'enforce';
    // A request that the policy denies also counts, because it costs as much.
    const excess = isEnforced && isRateLimited(limits) ? await throttle(identity.namespace, limits, now() - askedAt) : undefined;
    if (excess !== undefined) return { kind: 'too-many-requests', identity, excess };
    const { allowed, rule } = access.inForce.decide({ verb, key });
    const other = access.next?.decide({ verb, key });
    const difference = other !== undefined && other.allowed !== allowed ? { next: word(other.allowed), nextRule: other.rule } : undefined;
    if (!allowed && isEnforced) {
      const reason = `the policy does not allow ${identity.namespace}/${identity.serviceAccount} to ${verb} this key`;
      return { kind: 'forbidden', reason, detail: refusalText({ identity, verb, key }, access.inForce), identity, rule, difference };
    }
    if (folder !== undefined) return { kind: 'folder', answer: folder.answer, identity, rule, cached };
    const { maxObjectBytes, share, bytesPerSecond } = limits;
    if (verb === 'PUT' && contentLength !== undefined && contentLength > maxObjectBytes)
      return { kind: 'too-large', identity, maxObjectBytes };
    const seconds = Math.min(grantSeconds, Math.floor((resolution.goodUntil - now()) / 1000));
    const countsBytes = bytesPerSecond !== undefined;
    // Nobody counts what passes by Envoy: neither the bytes nor the requests that one ticket allows.
    const limited = { maxObjectBytes, maxShare: share, mayRedirect: !isRateLimited(limits) };
    const signed = signer.sign({ identity, ...limited, scope: access.grantFor(seconds) });
    return { kind: 'allow', identity, rule, cached, ...signed, wouldDeny: !allowed, difference, countsBytes };
  };
}

function word(allowed: boolean): 'allow' | 'deny' {
  return allowed ? 'allow' : 'deny';
}

/** The name of a decision in logs, metrics and spans. */
export function outcomeOf(decision: Decision): Decision['kind'] | 'would-deny' {
  return decision.kind === 'allow' && decision.wouldDeny ? 'would-deny' : decision.kind;
}
