/** Pure: whom a token authenticates, in the real API's order of checks and in its words (pkg/serviceaccount/jwt.go and claims.go of Kubernetes). */
import type { StoredObject } from './object.ts';
import { nodes, pods, serviceAccounts } from './resources.ts';
import type { VerifiedToken } from './signing-key.ts';
import type { ObjectStore } from './store.ts';
import type { KubernetesClaims, Reference, ReviewStatus, TokenClaims } from './token-claims.ts';
import { usernameOf } from './token-claims.ts';

/** The real API's leeway for `exp` and `nbf`, and how long a token outlives its Pod's deletionTimestamp. */
const leewaySeconds = 60;

/** `audiences` are those that the asker accepts, at least one. */
export function reviewToken({
  store,
  verified,
  audiences,
  now,
}: {
  store: ObjectStore;
  verified: VerifiedToken;
  audiences: readonly string[];
  now: Date;
}): ReviewStatus {
  switch (verified.kind) {
    case 'foreign':
      return { user: {}, error: 'invalid bearer token' };
    case 'unknown-key':
      return refused('invalid signature, no keys found');
    case 'bad-signature':
      return refused('go-jose/go-jose: error in cryptographic primitive');
    case 'claims': {
      const claims = verified.claims as unknown as TokenClaims;
      const held = [claims.aud].flat();
      const shared = audiences.filter((audience) => held.includes(audience));
      const reason =
        shared.length === 0
          ? `token audiences ${list(held)} is invalid for the target audiences ${list(audiences)}`
          : (timeProblem(claims, now) ?? boundProblem(store, claims['kubernetes.io'], now));
      return reason === undefined ? authenticated(claims, shared) : refused(reason);
    }
    default:
      return verified satisfies never;
  }
}

function timeProblem({ exp, nbf }: TokenClaims, now: Date): string | undefined {
  const seconds = now.getTime() / 1000;
  if (exp + leewaySeconds < seconds) return 'service account token has expired';
  if (nbf - leewaySeconds > seconds) return 'service account token is not valid yet';
  return undefined;
}

function boundProblem(store: ObjectStore, claims: KubernetesClaims, now: Date): string | undefined {
  const { namespace, serviceaccount, pod, node } = claims;
  const account = store.find(serviceAccounts, { namespace, name: serviceaccount.name });
  if (account === undefined) return `serviceaccounts "${serviceaccount.name}" not found`;
  const { uid } = account.metadata;
  if (uid !== serviceaccount.uid) return `service account UID (${uid}) does not match claim (${serviceaccount.uid})`;
  if (pod !== undefined) return holderProblem('pod', { held: store.find(pods, { namespace, name: pod.name }), claimed: pod, now });
  if (node !== undefined) return holderProblem('node', { held: store.find(nodes, { name: node.name }), claimed: node, now });
  return undefined;
}

function holderProblem(
  kind: 'pod' | 'node',
  { held, claimed, now }: { held: StoredObject | undefined; claimed: Reference; now: Date },
): string | undefined {
  const invalidated = 'service account token has been invalidated';
  if (held === undefined) return invalidated;
  const { uid, deletionTimestamp } = held.metadata;
  if (uid !== claimed.uid) {
    return `${kind} UID (${uid}) does not match service account ${kind} ref claim (${claimed.uid})`;
  }
  const isGone = deletionTimestamp !== undefined && Date.parse(deletionTimestamp) + leewaySeconds * 1000 < now.getTime();
  return isGone ? invalidated : undefined;
}

function authenticated({ jti, 'kubernetes.io': claims }: TokenClaims, audiences: readonly string[]): ReviewStatus {
  const { namespace, serviceaccount, pod, node } = claims;
  const prefix = 'authentication.kubernetes.io/';
  return {
    authenticated: true,
    user: {
      username: usernameOf(namespace, serviceaccount.name),
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

function refused(reason: string): ReviewStatus {
  return { user: {}, error: `[invalid bearer token, ${reason}]` };
}

function list(audiences: readonly string[]): string {
  return `[${audiences.map((audience) => JSON.stringify(audience)).join(' ')}]`;
}
