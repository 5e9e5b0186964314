/**
 * Pure: the identity of a token. The order of the checks and the texts are those of Kubernetes.
 * https://github.com/kubernetes/kubernetes/tree/master/pkg/serviceaccount
 */
import { pods, serviceAccounts } from './resources.ts';
import type { ObjectStore } from './store.ts';
import type { KubernetesClaims, TokenClaims } from './token-request.ts';

/** The real API's leeway for `exp` and `nbf`, and the time for which a token stays valid after its Pod's deletionTimestamp. */
const leewaySeconds = 60;
const invalidated = 'service account token has been invalidated';

/** The `status` of a TokenReview. A rejected token has no `authenticated` at all. */
export type ReviewStatus =
  | { readonly authenticated: true; readonly user: UserInfo; readonly audiences: readonly string[] }
  | { readonly user: Readonly<Record<string, never>>; readonly error: string };

interface UserInfo {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

/** For claims with a valid signature. `audiences` are those that the client of the review accepts, at least one. */
export function reviewClaims(
  store: ObjectStore,
  { claims, audiences, now }: { claims: TokenClaims; audiences: readonly string[]; now: Date },
): ReviewStatus {
  const held = [claims.aud].flat();
  const shared = audiences.filter((audience) => held.includes(audience));
  const problem =
    shared.length === 0
      ? `token audiences ${list(held)} is invalid for the target audiences ${list(audiences)}`
      : (timeProblem(claims, now) ?? boundProblem(store, claims['kubernetes.io'], now));
  return problem === undefined ? authenticated(claims, shared) : { user: {}, error: `[invalid bearer token, ${problem}]` };
}

function timeProblem({ exp, nbf }: TokenClaims, now: Date): string | undefined {
  const seconds = now.getTime() / 1000;
  if (exp + leewaySeconds < seconds) return 'service account token has expired';
  if (nbf - leewaySeconds > seconds) return 'service account token is not valid yet';
  return undefined;
}

function boundProblem(store: ObjectStore, { namespace, serviceaccount, pod }: KubernetesClaims, now: Date): string | undefined {
  const account = store.find(serviceAccounts, { namespace, name: serviceaccount.name })?.metadata;
  if (account === undefined) return `serviceaccounts "${serviceaccount.name}" not found`;
  if (account.uid !== serviceaccount.uid) return `service account UID (${account.uid}) does not match claim (${serviceaccount.uid})`;
  if (pod === undefined) return undefined;
  const held = store.find(pods, { namespace, name: pod.name })?.metadata;
  if (held === undefined) return invalidated;
  if (held.uid !== pod.uid) return `pod UID (${held.uid}) does not match service account pod ref claim (${pod.uid})`;
  const { deletionTimestamp } = held;
  const hasEnded = deletionTimestamp !== undefined && Date.parse(deletionTimestamp) + leewaySeconds * 1000 < now.getTime();
  return hasEnded ? invalidated : undefined;
}

function authenticated({ jti, sub, 'kubernetes.io': claims }: TokenClaims, audiences: readonly string[]): ReviewStatus {
  const { namespace, serviceaccount, pod, node } = claims;
  const prefix = 'authentication.kubernetes.io/';
  return {
    authenticated: true,
    user: {
      username: sub,
      uid: serviceaccount.uid,
      groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
      extra: {
        [`${prefix}credential-id`]: [`JTI=${jti}`],
        ...(node === undefined ? {} : { [`${prefix}node-name`]: [node.name] }),
        ...(node?.uid ? { [`${prefix}node-uid`]: [node.uid] } : {}),
        ...(pod === undefined ? {} : { [`${prefix}pod-name`]: [pod.name], [`${prefix}pod-uid`]: [pod.uid] }),
      },
    },
    audiences,
  };
}

function list(audiences: readonly string[]): string {
  return `[${audiences.map((audience) => JSON.stringify(audience)).join(' ')}]`;
}
