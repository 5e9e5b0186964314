/** Pure: the claims of the token for a TokenRequest. */
import type { StoredObject } from './object.ts';
import { nodes, pods } from './resources.ts';
import { type ApiError, badRequest, conflict, invalid, notServed } from './status.ts';
import type { ObjectStore } from './store.ts';

/** The issuer of every token, and the audience of tokens for the API itself. */
export const issuer = 'https://kubernetes.default.svc';
const defaultSeconds = 3_600;
const maxSeconds = 2 ** 32;

interface Reference {
  readonly name: string;
  readonly uid: string;
}

/** The private claim `kubernetes.io`. */
export interface KubernetesClaims {
  readonly namespace: string;
  readonly node?: Reference;
  readonly pod?: Reference;
  readonly serviceaccount: Reference;
}

export interface TokenClaims {
  readonly aud: readonly string[];
  readonly exp: number;
  readonly iat: number;
  readonly iss: string;
  readonly jti: string;
  readonly 'kubernetes.io': KubernetesClaims;
  readonly nbf: number;
  readonly sub: string;
}

type ObjectReference = { readonly [field in 'kind' | 'apiVersion' | 'name' | 'uid']?: string };

export interface TokenRequest {
  readonly spec?: {
    readonly audiences?: readonly string[] | null;
    readonly expirationSeconds?: number | null;
    readonly boundObjectRef?: ObjectReference | null;
  };
}

/** Returns the claims and the `spec` of the response. Throws ApiError. */
export function grantToken({
  store,
  account,
  request,
  minSeconds,
  now,
  newId,
}: {
  store: ObjectStore;
  account: StoredObject;
  request: TokenRequest;
  minSeconds: number;
  now: Date;
  newId: () => string;
}): { claims: TokenClaims; spec: object } {
  const { name, namespace = '', uid } = account.metadata;
  const { audiences, expirationSeconds, boundObjectRef = null } = request.spec ?? {};
  const seconds = expirationSeconds ?? defaultSeconds;
  if (!Number.isInteger(seconds) || seconds < minSeconds) {
    const least = minSeconds === 600 ? '10 minutes' : `${minSeconds} seconds`;
    throw invalidLifetime(`${seconds}: may not specify a duration less than ${least}`);
  }
  if (seconds > maxSeconds) throw invalidLifetime(`${seconds}: may not specify a duration larger than 2^32 seconds`);
  const aud = audiences?.length ? [...audiences] : [issuer];
  const at = Math.floor(now.getTime() / 1000);
  const bound = boundObjectRef === null ? {} : boundTo(store, account, boundObjectRef);
  return {
    claims: {
      aud,
      exp: at + seconds,
      iat: at,
      iss: issuer,
      jti: newId(),
      'kubernetes.io': { namespace, ...bound, serviceaccount: { name, uid } },
      nbf: at,
      sub: `system:serviceaccount:${namespace}:${name}`,
    },
    spec: { audiences: aud, expirationSeconds: seconds, boundObjectRef },
  };
}

function invalidLifetime(why: string): ApiError {
  const problem = { field: 'spec.expirationSeconds', reason: 'FieldValueInvalid', message: `Invalid value: ${why}` } as const;
  return invalid({ kind: 'TokenRequest', group: 'authentication.k8s.io' }, '', problem);
}

/** The Pod and its Node. */
function boundTo(
  store: ObjectStore,
  account: StoredObject,
  { kind, name = '', uid }: ObjectReference,
): Pick<KubernetesClaims, 'pod' | 'node'> {
  if (kind !== 'Pod') throw notServed(`tokens that are bound to a ${kind}`);
  const { metadata, spec } = store.get(pods, { namespace: account.metadata.namespace, name });
  if (uid && uid !== metadata.uid) {
    const why = `the UID in the bound object reference (${uid}) does not match the UID in record. The object might have been deleted and then recreated`;
    throw conflict({ ...pods, plural: pods.kind }, name, why);
  }
  const own = account.metadata.name;
  if ((spec?.serviceAccountName ?? 'default') !== own) {
    throw badRequest(`cannot bind token for serviceaccount "${own}" to pod running with different serviceaccount name.`);
  }
  const pod = { name, uid: metadata.uid };
  if (typeof spec?.nodeName !== 'string') return { pod };
  return { pod, node: { name: spec.nodeName, uid: store.find(nodes, { name: spec.nodeName })?.metadata.uid ?? '' } };
}
