/** Pure: the claims that a TokenRequest is granted. */
import type { StoredObject } from './object.ts';
import { nodes, pods, type Resource } from './resources.ts';
import { ApiError, badRequest, conflict, invalid, notFound } from './status.ts';
import type { ObjectStore } from './store.ts';
import { issuer, type KubernetesClaims, type Reference, type TokenClaims, usernameOf } from './token-claims.ts';

const defaultSeconds = 3_600;
const longestSeconds = 2 ** 32;

export interface TokenRequest {
  readonly metadata?: { readonly name?: string; readonly namespace?: string };
  readonly spec?: {
    readonly audiences?: readonly string[] | null;
    readonly expirationSeconds?: number | null;
    readonly boundObjectRef?: {
      readonly kind?: string;
      readonly apiVersion?: string;
      readonly name?: string;
      readonly uid?: string;
    } | null;
  };
}

export interface Grant {
  readonly claims: TokenClaims;
  /** As the answer's `spec` says it. */
  readonly spec: object;
}

/** Throws ApiError for what the real API refuses. */
export function grantToken({
  store,
  account,
  request,
  shortestSeconds,
  now,
  newId,
}: {
  store: ObjectStore;
  account: StoredObject;
  request: TokenRequest;
  shortestSeconds: number;
  now: Date;
  newId: () => string;
}): Grant {
  const { name, namespace = '', uid } = account.metadata;
  const { audiences, expirationSeconds, boundObjectRef } = request.spec ?? {};
  requireOwnName(request, name);
  const seconds = expirationSeconds ?? defaultSeconds;
  requireLife(seconds, shortestSeconds);
  const aud = audiences?.length ? [...audiences] : [issuer];
  const at = Math.floor(now.getTime() / 1000);
  const bound = boundObjectRef ? boundTo(store, account, boundObjectRef) : {};
  return {
    claims: {
      aud,
      exp: at + seconds,
      iat: at,
      iss: issuer,
      jti: newId(),
      'kubernetes.io': { namespace, ...bound, serviceaccount: { name, uid } },
      nbf: at,
      sub: usernameOf(namespace, name),
    },
    spec: { audiences: aud, expirationSeconds: seconds, boundObjectRef: boundObjectRef ?? null },
  };
}

function requireOwnName({ metadata }: TokenRequest, name: string): void {
  if (!metadata?.name || metadata.name === name) return;
  const message = `Invalid value: ${JSON.stringify(metadata.name)}: must match the service account name if specified`;
  throw invalid(tokenRequest, name, [{ field: 'metadata.name', reason: 'FieldValueInvalid', message }]);
}

function requireLife(seconds: number, shortestSeconds: number): void {
  const shortest = shortestSeconds === 600 ? '10 minutes' : `${shortestSeconds} seconds`;
  const why =
    !Number.isInteger(seconds) || seconds < shortestSeconds
      ? `may not specify a duration less than ${shortest}`
      : seconds > longestSeconds
        ? 'may not specify a duration larger than 2^32 seconds'
        : undefined;
  if (why === undefined) return;
  const problem = { field: 'spec.expirationSeconds', reason: 'FieldValueInvalid', message: `Invalid value: ${seconds}: ${why}` } as const;
  throw invalid(tokenRequest, '', [problem]);
}

type Bound = Pick<KubernetesClaims, 'pod' | 'node'>;

function boundTo(
  store: ObjectStore,
  account: StoredObject,
  { kind = '', apiVersion = '', name = '', uid }: { kind?: string; apiVersion?: string; name?: string; uid?: string },
): Bound {
  if (kind === 'Pod') {
    const pod = held(store, pods, { namespace: account.metadata.namespace, name, uid });
    if ((pod.spec?.serviceAccountName ?? 'default') !== account.metadata.name) {
      throw badRequest(
        `cannot bind token for serviceaccount "${account.metadata.name}" to pod running with different serviceaccount name.`,
      );
    }
    return { ...nodeOf(store, pod), pod: { name, uid: pod.metadata.uid } };
  }
  if (kind === 'Node') return { node: { name, uid: held(store, nodes, { name, uid }).metadata.uid } };
  // The stand-in keeps no Secrets, so none is found.
  if (kind === 'Secret') throw new ApiError({ code: 404, reason: 'NotFound', message: `secrets "${name}" not found` });
  throw badRequest(`cannot bind token to object of type ${apiVersion.includes('/') ? '' : '/'}${apiVersion}, Kind=${kind}`);
}

function nodeOf(store: ObjectStore, { spec }: StoredObject): { node?: Reference } {
  if (typeof spec?.nodeName !== 'string') return {};
  return { node: { name: spec.nodeName, uid: store.find(nodes, { name: spec.nodeName })?.metadata.uid ?? '' } };
}

function held(
  store: ObjectStore,
  resource: Resource,
  { namespace, name, uid }: { namespace?: string | undefined; name: string; uid: string | undefined },
): StoredObject {
  const object = store.find(resource, { namespace, name });
  if (object === undefined) throw notFound(resource, name);
  if (uid && uid !== object.metadata.uid) {
    const why = `the UID in the bound object reference (${uid}) does not match the UID in record. The object might have been deleted and then recreated`;
    throw conflict({ ...resource, plural: resource.kind }, name, why);
  }
  return object;
}

const tokenRequest = { kind: 'TokenRequest', group: 'authentication.k8s.io' };
