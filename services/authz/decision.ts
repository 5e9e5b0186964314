/** Decides a request: parses it, resolves the identity of its token, and evaluates the policy. */
import type { TraceContext } from '../shared/trace-context.ts';
import type { CallerSigner } from './caller-signer.ts';
import type { Identity, Resolution } from './identity/identity.ts';
import { maxTokenBytes } from './identity/jwt.ts';
import { rememberAccess } from './policy/access.ts';
import { isRateLimited, type Verb } from './policy/document.ts';
import type { Grant } from './policy/grant.ts';
import { type OriginTerms, originOf } from './policy/origin-terms.ts';
import type { Access, Labels, Policy, Verdict } from './policy/policy.ts';
import { prefixRefusalText, refusalText } from './policy/refusal.ts';
import type { Excess } from './rate-limit/rate.ts';
import type { Throttle } from './rate-limit/throttle.ts';
import { type AuthorizedRequest, isLoggedAlways, type ObjectRequest, type PrefixRequest, readRequest } from './request.ts';

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
  /** Set when the policies differ about this verb and agree about the method. */
  readonly nextVerb?: Verb;
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
      /** Name of the origin from which a miss may be fetched. */
      readonly origin?: string | undefined;
      /** True for a request that the audit log must have. */
      readonly isLoggedAlways?: boolean;
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
  | Exclude<AuthorizedRequest, ObjectRequest | PrefixRequest>
  | { readonly kind: 'no-origin'; readonly identity: Identity }
  | { readonly kind: 'too-large'; readonly identity: Identity; readonly maxObjectBytes: number }
  | { readonly kind: 'too-many-requests'; readonly identity: Identity; readonly excess: Excess }
  | Extract<Resolution, { kind: 'unavailable' }>
  | { readonly kind: 'no-policy' };

export type Decide = (question: Question) => Promise<Decision>;

export function createDecide({
  resolve,
  isLate,
  policy: inForce,
  next,
  origins: originsInForce,
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
  /** The same list until the document changes. */
  origins: () => readonly OriginTerms[];
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
    const request = readRequest(method, target);
    if (request.kind !== 'object' && request.kind !== 'prefix') return request;

    const askedAt = now();
    const resolution = await resolve(token, { isLate: isLate(receivedAt) });
    if (resolution.kind === 'refused') return { kind: 'unauthenticated', reason: resolution.reason };
    if (resolution.kind === 'unavailable') return resolution;
    const { identity, cached } = resolution;
    const policy = inForce();
    if (policy === undefined) return { kind: 'no-policy' };
    const origins = originsInForce();
    const access = accessOf(identity, { policy, next: next(), labels: labelsOf(identity.namespace), origins, version: version() });
    const { limits } = access.inForce;
    const isEnforced = policy.document.mode === 'enforce';
    // A request that the policy denies also counts, because it costs as much.
    const excess = isEnforced && isRateLimited(limits) ? await throttle(identity.namespace, limits, now() - askedAt) : undefined;
    if (excess !== undefined) return { kind: 'too-many-requests', identity, excess };
    const judgement = judge(request, access.inForce, origins);
    const { allowed, rule } = judgement;
    const difference = access.next && differenceOf(judgement, judge(request, access.next, origins));
    // A dry run opens the methods of objects alone.
    if (!allowed && (isEnforced || request.kind === 'prefix')) {
      const texts = refusalTexts(request, { identity, verb: judgement.verb }, access.inForce);
      return { kind: 'forbidden', ...texts, identity, rule, difference };
    }
    if (request.kind === 'object' && request.folder !== undefined)
      return { kind: 'folder', answer: request.folder, identity, rule, cached };
    const origin = originFor(request, judgement, origins);
    if (origin === undefined && request.kind === 'prefix' && request.service === 'prefetch') return { kind: 'no-origin', identity };
    const { maxObjectBytes, share, bytesPerSecond } = limits;
    if (judgement.verb === 'PUT' && contentLength !== undefined && contentLength > maxObjectBytes)
      return { kind: 'too-large', identity, maxObjectBytes };
    const seconds = Math.min(grantSeconds, Math.floor((resolution.goodUntil - now()) / 1000));
    const countsBytes = bytesPerSecond !== undefined;
    // Nobody counts what passes by Envoy: neither the bytes nor the requests that one ticket allows.
    const limited = { maxObjectBytes, maxShare: share, mayRedirect: !isRateLimited(limits) };
    const scope = request.kind === 'object' ? access.grantFor(seconds) : undefined;
    const signed = signer.sign({ identity, ...limited, fill: origin?.fill, scope });
    const forLog = { origin: origin?.fill.origin, isLoggedAlways: isLoggedAlways(request) };
    return { kind: 'allow', identity, rule, cached, ...signed, wouldDeny: !allowed, difference, countsBytes, ...forLog };
  };
}

/** The verdict on the verb that decides, and the one on FILL if that matters. */
interface Judgement extends Pick<Verdict, 'allowed' | 'rule'> {
  readonly verb: Verb;
  readonly fill?: Pick<Verdict, 'allowed' | 'rule'> | undefined;
}

function judge(request: ObjectRequest | PrefixRequest, access: Access, origins: readonly OriginTerms[]): Judgement {
  if (request.kind === 'prefix') {
    const verdicts = request.verbs.map((verb) => ({ verb, ...access.decideOver({ verb, prefix: request.prefix }) }));
    return verdicts.find(({ allowed }) => !allowed) ?? (verdicts.at(-1) as Judgement);
  }
  const { verb, key } = request;
  const { allowed, rule } = access.decide({ verb, key });
  const mayFill = allowed && request.isThrough && (verb === 'GET' || verb === 'HEAD') && originOf(origins, key) !== undefined;
  return { verb, allowed, rule, fill: mayFill ? access.decide({ verb: 'FILL', key }) : undefined };
}

function differenceOf({ allowed, fill }: Judgement, next: Judgement): ShadowDifference | undefined {
  if (next.allowed !== allowed) return { next: word(next.allowed), nextRule: next.rule };
  if (next.fill === undefined || next.fill.allowed === fill?.allowed) return undefined;
  return { next: word(next.fill.allowed), nextRule: next.fill.rule, nextVerb: 'FILL' };
}

/** From which a miss may be fetched. */
function originFor(request: ObjectRequest | PrefixRequest, { fill }: Judgement, origins: readonly OriginTerms[]): OriginTerms | undefined {
  if (request.kind === 'object') return fill?.allowed ? originOf(origins, request.key) : undefined;
  return request.service === 'prefetch' ? originOf(origins, request.prefix) : undefined;
}

function refusalTexts(
  request: ObjectRequest | PrefixRequest,
  refused: { readonly identity: Identity; readonly verb: Verb },
  access: Access,
): { readonly reason: string; readonly detail: string } {
  const { identity, verb } = refused;
  const reason = `the policy does not allow ${identity.namespace}/${identity.serviceAccount} to ${verb} this ${request.kind === 'object' ? 'key' : 'prefix'}`;
  return {
    reason,
    detail:
      request.kind === 'object'
        ? refusalText({ ...refused, key: request.key }, access)
        : prefixRefusalText({ ...refused, prefix: request.prefix }, access),
  };
}

function word(allowed: boolean): 'allow' | 'deny' {
  return allowed ? 'allow' : 'deny';
}

/** The name of a decision in logs, metrics and spans. */
export function outcomeOf(decision: Decision): Decision['kind'] | 'would-deny' {
  return decision.kind === 'allow' && decision.wouldDeny ? 'would-deny' : decision.kind;
}
