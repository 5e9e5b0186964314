/** One TokenReview: the question, its deadline, and the three things that an answer can mean. */
import {
  ApiException,
  AuthenticationV1Api,
  Observable,
  type ObservableMiddleware,
  type V1TokenReviewStatus,
} from '@kubernetes/client-node';
import { decodeJwt } from 'jose';
import type { KubernetesClient } from '../shared/kubernetes.ts';
import type { Identity } from './identity.ts';

export type ReviewAnswer =
  | { readonly kind: 'identity'; readonly identity: Identity; readonly expiresAt: number }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'unavailable'; readonly reason: string };

const extraPrefix = 'authentication.kubernetes.io/';

/**
 * Asks the API who a token belongs to. Only the API's own word about the token is a refusal: an error, 401, 403, 429 or 5xx on the call itself, and silence until
 * the deadline are «unavailable» (a slow refusal looks just like trouble behind the API, facts/kubernetes.md).
 */
export function createTokenReviewer({ client, audience, deadlineMs }: { client: KubernetesClient; audience: string; deadlineMs: number }) {
  const api = client.api(AuthenticationV1Api);
  return async (token: string): Promise<ReviewAnswer> => {
    const signal = AbortSignal.timeout(deadlineMs);
    const withDeadline: ObservableMiddleware = {
      pre: (context) => {
        context.setSignal(signal);
        return new Observable(Promise.resolve(context));
      },
      post: (context) => new Observable(Promise.resolve(context)),
    };
    try {
      const body = { spec: { token, audiences: [audience] } };
      const { status } = await api.createTokenReview({ body }, { middleware: [withDeadline], middlewareMergeStrategy: 'append' });
      return readStatus(status, { token, audience });
    } catch (error) {
      if (signal.aborted) return { kind: 'unavailable', reason: 'the Kubernetes API did not answer in time' };
      const reason = error instanceof ApiException ? `the Kubernetes API answered ${error.code}` : 'the Kubernetes API cannot be reached';
      return { kind: 'unavailable', reason };
    }
  };
}

/** The reply repeats the token, so nothing of it but these fields goes any further. */
function readStatus(status: V1TokenReviewStatus | undefined, { token, audience }: { token: string; audience: string }): ReviewAnswer {
  if (status?.authenticated !== true) return { kind: 'refused', reason: 'the token is not valid' };
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
  if (name === undefined || uid === undefined) return { kind: 'refused', reason: 'the token is bound to no Pod' };
  return { kind: 'identity', identity: { namespace, serviceAccount, pod: { name, uid } }, expiresAt: (decodeJwt(token).exp ?? 0) * 1000 };
}
