/** Sends one TokenReview, with a limit on concurrent reviews and a deadline, and interprets the response. */
import { randomBytes } from 'node:crypto';
import {
  ApiException,
  AuthenticationV1Api,
  Observable,
  type ObservableMiddleware,
  type V1TokenReviewStatus,
} from '@kubernetes/client-node';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Identity, Unavailable } from './identity.ts';

export type ReviewAnswer =
  | { readonly kind: 'identity'; readonly identity: Identity }
  | { readonly kind: 'refused'; readonly reason: string }
  | Unavailable;

export type Review = (token: string, options: { bypassServerCache: boolean }) => Promise<ReviewAnswer>;

interface ReviewerOptions {
  readonly client: KubernetesClient;
  readonly audience: string;
  /** Deadline of a review, including the wait for its turn. */
  readonly deadlineMs: number;
  readonly maxInFlight: number;
  /** Whether tokens without a Pod are accepted. */
  readonly allowUnbound: boolean;
}

const extraPrefix = 'authentication.kubernetes.io/';
/** Reviews that wait for their turn. Each holds its token in memory. */
const maxWaiting = 1_000;
/** A check that has waited for so long is refused, so that the others get their turn. */
const maxTurnMs = 300;
/** A review that could start only after this share of its deadline would be cut off, so it is not sent. */
const maxTurnShare = 0.75;

/**
 * Asks the API for the identity of a token. Only the API's own result about the token is a refusal. An error of the call (401, 403, 429,
 * 5xx) or a timeout gives `unavailable`, because a slow refusal looks the same as an outage.
 */
export class TokenReviewer {
  readonly #options: ReviewerOptions;
  readonly #api: AuthenticationV1Api;
  readonly #waiting = new Set<() => void>();
  #inFlight = 0;

  constructor(options: ReviewerOptions) {
    this.#options = options;
    this.#api = options.client.api(AuthenticationV1Api);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** `bypassServerCache` adds a unique audience, so the API cannot use its cached result. Never rejects. */
  review: Review = async (token, { bypassServerCache }) => {
    const startedAt = performance.now();
    if (!(await this.#turn())) return { kind: 'unavailable', reason: 'too many TokenReviews are in progress', isOverload: true };
    try {
      const deadlineMs = Math.max(1, this.#options.deadlineMs - (performance.now() - startedAt));
      return await this.#ask(token, { deadlineMs, bypassServerCache });
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#inFlight--;
      else next();
    }
  };

  /** Takes a free turn, or waits until another review ends and passes its turn on. False when no turn becomes free in time. */
  async #turn(): Promise<boolean> {
    if (this.#inFlight < this.#options.maxInFlight) {
      this.#inFlight++;
      return true;
    }
    if (this.#waiting.size >= maxWaiting) return false;
    return await new Promise((resolve) => {
      const settle = (hasTurn: boolean): void => {
        clearTimeout(timer);
        this.#waiting.delete(start);
        resolve(hasTurn);
      };
      const start = (): void => settle(true);
      const timer = setTimeout(() => settle(false), Math.min(maxTurnMs, this.#options.deadlineMs * maxTurnShare));
      this.#waiting.add(start);
    });
  }

  async #ask(token: string, { deadlineMs, bypassServerCache }: { deadlineMs: number; bypassServerCache: boolean }): Promise<ReviewAnswer> {
    const { audience, allowUnbound } = this.#options;
    const signal = AbortSignal.timeout(Math.ceil(deadlineMs));
    const withDeadline: ObservableMiddleware = {
      pre: (context) => {
        context.setSignal(signal);
        return new Observable(Promise.resolve(context));
      },
      post: (context) => new Observable(Promise.resolve(context)),
    };
    try {
      const audiences = bypassServerCache ? [audience, `nonce-${randomBytes(8).toString('hex')}`] : [audience];
      const body = { spec: { token, audiences } };
      const { status } = await this.#api.createTokenReview({ body }, { middleware: [withDeadline], middlewareMergeStrategy: 'append' });
      return readStatus(status, { audience, allowUnbound });
    } catch (error) {
      if (signal.aborted) return { kind: 'unavailable', reason: 'the Kubernetes API did not respond in time' };
      const reason = error instanceof ApiException ? `the Kubernetes API returned ${error.code}` : 'the Kubernetes API cannot be reached';
      return { kind: 'unavailable', reason };
    }
  }
}

/** The response repeats the token, so only these fields are used. */
function readStatus(
  status: V1TokenReviewStatus | undefined,
  { audience, allowUnbound }: { audience: string; allowUnbound: boolean },
): ReviewAnswer {
  // A 201 without a status says nothing about the token.
  if (status === undefined) return { kind: 'unavailable', reason: 'the Kubernetes API returned no status' };
  if (status.authenticated !== true) return { kind: 'refused', reason: 'the token is not valid' };
  // A token without audiences is for the API itself.
  if (!status.audiences?.includes(audience)) return { kind: 'refused', reason: 'the token has another audience' };
  const match = /^system:serviceaccount:([a-z0-9](?:[-a-z0-9]*[a-z0-9])?):([a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)$/.exec(
    status.user?.username ?? '',
  );
  if (match === null || !status.user?.groups?.includes('system:serviceaccounts'))
    return { kind: 'refused', reason: 'the token does not belong to a ServiceAccount' };
  const [, namespace, serviceAccount] = match as unknown as [string, string, string];
  const name = status.user.extra?.[`${extraPrefix}pod-name`]?.[0];
  const uid = status.user.extra?.[`${extraPrefix}pod-uid`]?.[0];
  if (name !== undefined && uid !== undefined) return { kind: 'identity', identity: { namespace, serviceAccount, pod: { name, uid } } };
  if (allowUnbound) return { kind: 'identity', identity: { namespace, serviceAccount } };
  return { kind: 'refused', reason: 'the token is not bound to a Pod' };
}
