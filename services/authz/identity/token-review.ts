/** One TokenReview: the question, its turn, its deadline, and the three things that an answer can mean. */
import { randomBytes } from 'node:crypto';
import {
  ApiException,
  AuthenticationV1Api,
  Observable,
  type ObservableMiddleware,
  type V1TokenReviewStatus,
} from '@kubernetes/client-node';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Identity } from './identity.ts';

export type ReviewAnswer =
  | { readonly kind: 'identity'; readonly identity: Identity }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'unavailable'; readonly reason: string };

export type Review = (token: string, options: { bypassServerCache: boolean }) => Promise<ReviewAnswer>;

interface ReviewerOptions {
  readonly client: KubernetesClient;
  readonly audience: string;
  /** For the whole of it, the wait for a turn included. */
  readonly deadlineMs: number;
  readonly maxInFlight: number;
  /** Tokens that are bound to no Pod are good too. */
  readonly allowUnbound: boolean;
}

const extraPrefix = 'authentication.kubernetes.io/';
/** Reviews that wait for a turn; each holds its token. */
const maxWaiting = 1_000;
/** A review whose turn comes later than this share of its deadline would only be cut off: the API is left alone. */
const maxTurnShare = 0.75;

/**
 * Asks the API who a token belongs to. Only the API's own word about the token is a refusal: an error, 401, 403, 429 or 5xx on the call itself, and silence until
 * the deadline are «unavailable» (a slow refusal looks just like trouble behind the API).
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

  /** `bypassServerCache`: an audience that nobody asked for before makes the API look at the token again. Never rejects. */
  review: Review = async (token, { bypassServerCache }) => {
    const startedAt = performance.now();
    if (!(await this.#turn())) return { kind: 'unavailable', reason: 'too many reviews are under way' };
    try {
      const deadlineMs = Math.max(1, this.#options.deadlineMs - (performance.now() - startedAt));
      return await this.#ask(token, { deadlineMs, bypassServerCache });
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#inFlight--;
      else next();
    }
  };

  /** Takes a turn, or one handed over by a review that ends; false when there is none in time. */
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
      const timer = setTimeout(() => settle(false), this.#options.deadlineMs * maxTurnShare);
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
      if (signal.aborted) return { kind: 'unavailable', reason: 'the Kubernetes API did not answer in time' };
      const reason = error instanceof ApiException ? `the Kubernetes API answered ${error.code}` : 'the Kubernetes API cannot be reached';
      return { kind: 'unavailable', reason };
    }
  }
}

/** The reply repeats the token, so nothing of it but these fields goes any further. */
function readStatus(
  status: V1TokenReviewStatus | undefined,
  { audience, allowUnbound }: { audience: string; allowUnbound: boolean },
): ReviewAnswer {
  // A 201 without a status is no word about the token.
  if (status === undefined) return { kind: 'unavailable', reason: 'the Kubernetes API answered without a status' };
  if (status.authenticated !== true) return { kind: 'refused', reason: 'the token is not valid' };
  // Without audiences the token is one for the API itself.
  if (!status.audiences?.includes(audience)) return { kind: 'refused', reason: 'the token has another audience' };
  const match = /^system:serviceaccount:([a-z0-9](?:[-a-z0-9]*[a-z0-9])?):([a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)$/.exec(
    status.user?.username ?? '',
  );
  if (match === null || !status.user?.groups?.includes('system:serviceaccounts'))
    return { kind: 'refused', reason: 'the token is not of a ServiceAccount' };
  const [, namespace, serviceAccount] = match as unknown as [string, string, string];
  const name = status.user.extra?.[`${extraPrefix}pod-name`]?.[0];
  const uid = status.user.extra?.[`${extraPrefix}pod-uid`]?.[0];
  if (name !== undefined && uid !== undefined) return { kind: 'identity', identity: { namespace, serviceAccount, pod: { name, uid } } };
  if (allowUnbound) return { kind: 'identity', identity: { namespace, serviceAccount } };
  return { kind: 'refused', reason: 'the token is bound to no Pod' };
}
