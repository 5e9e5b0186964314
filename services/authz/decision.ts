/** From a request to a decision: what it asks for, who asks, and whether that is allowed. */
import { parseTarget } from '../shared/key.ts';
import type { CallerSigner } from './caller-signer.ts';
import type { Identity, Resolution } from './identity/identity.ts';
import { maxTokenBytes } from './identity/jwt.ts';
import { rememberAccess } from './policy/access.ts';
import { isRateLimited, type Verb, verbs } from './policy/document.ts';
import type { Grant } from './policy/grant.ts';
import type { Labels, Policy } from './policy/policy.ts';
import type { Excess } from './rate-limit/rate.ts';
import type { Throttle } from './rate-limit/throttle.ts';

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
  /** WebDAV's question whether a folder is there, or its wish for one: answered here, and nothing reaches a shard. */
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
  | { readonly kind: 'too-large'; readonly maxObjectBytes: number }
  | { readonly kind: 'too-many-requests'; readonly identity: Identity; readonly excess: Excess }
  | { readonly kind: 'unavailable'; readonly reason: string }
  | { readonly kind: 'no-policy' };

export type Decide = (question: Question) => Promise<Decision>;

/**
 * sccache asks for folders before it writes (PROPFIND) and makes them (MKCOL); kura has none. Who may not HEAD or PUT the key is refused like for these, so that the answers
 * tell nothing and change nothing.
 */
const folderVerbs: Readonly<Record<string, { readonly as: Verb; readonly answer: 'absent' | 'made' }>> = {
  PROPFIND: { as: 'HEAD', answer: 'absent' },
  MKCOL: { as: 'PUT', answer: 'made' },
};

export function createDecide({
  resolve,
  policy: inForce,
  next,
  version,
  labelsOf,
  throttle,
  signer,
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
  throttle: Throttle;
  signer: Pick<CallerSigner, 'sign'>;
  /** How long Envoy may reuse an allow; 0 = not at all. */
  grantSeconds: number;
  /** In milliseconds since the epoch. */
  now: () => number;
}): Decide {
  const accessOf = rememberAccess();
  return async ({ method, target, token, contentLength }) => {
    if (token === undefined) return { kind: 'unauthenticated', reason: 'one Authorization header with a bearer token is needed' };
    if (token.length > maxTokenBytes) return { kind: 'unauthenticated', reason: `a token has at most ${maxTokenBytes} bytes` };
    const parsed = parseTarget(target);
    if (parsed.kind === 'other-path') return { kind: 'no-such-path' };
    if (parsed.kind === 'bad-key') return { kind: 'bad-key' };
    const folder = Object.hasOwn(folderVerbs, method) ? folderVerbs[method] : undefined;
    const verb = folder?.as ?? verbs.find((candidate) => candidate === method);
    if (verb === undefined) return { kind: 'bad-method', allowed: verbs };

    const askedAt = now();
    const resolution = await resolve(token);
    if (resolution.kind === 'refused') return { kind: 'unauthenticated', reason: resolution.reason };
    if (resolution.kind === 'unavailable') return resolution;
    const { identity, cached } = resolution;
    const policy = inForce();
    if (policy === undefined) return { kind: 'no-policy' };
    const { key } = parsed;
    const access = accessOf(identity, { policy, next: next(), labels: labelsOf(identity.namespace), version: version() });
    const { limits } = access.inForce;
    const isEnforced = policy.document.mode === 'enforce';
    // What is refused counts too: it costs as much.
    const excess = isEnforced && isRateLimited(limits) ? await throttle(identity.namespace, limits, now() - askedAt) : undefined;
    if (excess !== undefined) return { kind: 'too-many-requests', identity, excess };
    const { allowed, rule } = access.inForce.decide({ verb, key });
    const other = access.next?.decide({ verb, key });
    const difference = other !== undefined && other.allowed !== allowed ? { next: word(other.allowed), nextRule: other.rule } : undefined;
    if (!allowed && isEnforced) {
      const reason = `the policy does not let ${identity.namespace}/${identity.serviceAccount} ${verb} this key`;
      return { kind: 'forbidden', reason, identity, rule, difference };
    }
    if (folder !== undefined) return { kind: 'folder', answer: folder.answer, identity, rule, cached };
    const { maxObjectBytes, share, bytesPerSecond } = limits;
    if (verb === 'PUT' && contentLength !== undefined && contentLength > maxObjectBytes) return { kind: 'too-large', maxObjectBytes };
    const seconds = Math.min(grantSeconds, Math.floor((resolution.goodUntil - now()) / 1000));
    const countsBytes = bytesPerSecond !== undefined;
    // Envoy does not count what passes by it.
    const limited = { maxObjectBytes, maxShare: share, mayRedirect: !countsBytes };
    const signed = signer.sign({ identity, ...limited, scope: access.grantFor(seconds) });
    return { kind: 'allow', identity, rule, cached, ...signed, wouldDeny: !allowed, difference, countsBytes };
  };
}

function word(allowed: boolean): 'allow' | 'deny' {
  return allowed ? 'allow' : 'deny';
}
