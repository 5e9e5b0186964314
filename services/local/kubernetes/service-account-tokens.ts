/** ServiceAccount tokens as the real API signs and checks them: RS256 JWTs, bound to audiences, a time and, where asked for, a Pod. */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { errors, exportJWK, type JWK, jwtVerify, SignJWT } from 'jose';
import { resources } from './resources.ts';
import { badRequest, conflict, invalid, notFound } from './status.ts';
import type { ObjectStore, StoredObject } from './store.ts';

export const issuer = 'https://kubernetes.default.svc';
/** The real API's leeway for `exp` and `nbf`. */
const leewaySeconds = 60;
const defaultSeconds = 3_600;
const longestSeconds = 2 ** 32;

const [serviceAccounts, pods, nodes] = ['serviceaccounts', 'pods', 'nodes'].map((plural) =>
  resources.find((resource) => resource.plural === plural),
) as [(typeof resources)[number], (typeof resources)[number], (typeof resources)[number]];

interface Reference {
  readonly name: string;
  readonly uid: string;
}

interface KubernetesClaims {
  readonly namespace: string;
  readonly serviceaccount: Reference;
  readonly pod?: Reference;
  readonly node?: Reference;
}

export interface TokenRequestSpec {
  readonly audiences?: readonly string[];
  readonly expirationSeconds?: number;
  readonly boundObjectRef?: { readonly kind?: string; readonly apiVersion?: string; readonly name?: string; readonly uid?: string };
}

/** The `status` of a TokenReview. A refusal has no `authenticated` at all, as the real one (facts/kubernetes.md). */
export type ReviewStatus =
  | {
      readonly authenticated: true;
      readonly user: {
        readonly username: string;
        readonly uid: string;
        readonly groups: readonly string[];
        readonly extra: Readonly<Record<string, readonly string[]>>;
      };
      readonly audiences: readonly string[];
    }
  | { readonly user: Readonly<Record<string, never>>; readonly error: string };

export interface ServiceAccountTokens {
  /** `/openid/v1/jwks` */
  readonly jwks: { readonly keys: readonly JWK[] };
  issue(serviceAccount: StoredObject, spec: TokenRequestSpec): Promise<{ token: string; expirationTimestamp: string; spec: object }>;
  review(token: string, audiences: readonly string[]): Promise<ReviewStatus>;
}

export interface TokenOptions {
  /** Where `sa.key` lies or is made. */
  readonly directory: string;
  readonly store: ObjectStore;
  /** The shortest life that may be asked for; the real API's is 600. */
  readonly shortestSeconds: number;
}

/** A refusal of one token, in the real API's words. */
class Refusal extends Error {}

export async function openServiceAccountTokens({ directory, store, shortestSeconds }: TokenOptions): Promise<ServiceAccountTokens> {
  const privateKey = await signingKey(path.join(directory, 'sa.key'));
  const publicKey = createPublicKey(privateKey);
  const keyId = createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64url');
  const jwk = { use: 'sig', kid: keyId, alg: 'RS256', ...(await exportJWK(publicKey)) };

  return {
    jwks: { keys: [jwk] },
    issue: async (serviceAccount, spec) => {
      const seconds = spec.expirationSeconds ?? defaultSeconds;
      const { name, namespace = '', uid } = serviceAccount.metadata;
      if (seconds < shortestSeconds || seconds > longestSeconds) {
        const problem = `spec.expirationSeconds: Invalid value: ${seconds}: may not specify a duration less than ${shortestSeconds} seconds or more than 2^32 seconds`;
        throw invalid({ ...serviceAccounts, group: 'authentication.k8s.io', kind: 'TokenRequest' }, '', problem);
      }
      const audiences = spec.audiences?.length ? [...spec.audiences] : [issuer];
      const now = Math.floor(Date.now() / 1000);
      const claims: KubernetesClaims = { namespace, ...boundClaims(store, serviceAccount, spec), serviceaccount: { name, uid } };
      const token = await new SignJWT({ 'kubernetes.io': claims })
        .setProtectedHeader({ alg: 'RS256', kid: keyId })
        .setAudience(audiences)
        .setExpirationTime(now + seconds)
        .setIssuedAt(now)
        .setNotBefore(now)
        .setIssuer(issuer)
        .setJti(randomUUID())
        .setSubject(`system:serviceaccount:${namespace}:${name}`)
        .sign(privateKey);
      const expirationTimestamp = new Date((now + seconds) * 1000).toISOString().replace('.000', '');
      return { token, expirationTimestamp, spec: { ...spec, audiences, expirationSeconds: seconds } };
    },
    review: async (token, audiences) => {
      try {
        return await check(token, audiences.length > 0 ? audiences : [issuer]);
      } catch (error) {
        if (error instanceof Refusal) return { user: {}, error: error.message };
        throw error;
      }
    },
  };

  async function check(token: string, audiences: readonly string[]): Promise<ReviewStatus> {
    const claims = await verify(token);
    const held = [claims.aud].flat() as string[];
    const shared = audiences.filter((audience) => held.includes(audience));
    if (shared.length === 0) refuse(`token audiences ${list(held)} is invalid for the target audiences ${list(audiences)}`);
    const bound = claims['kubernetes.io'] as KubernetesClaims;
    const { namespace } = bound;
    const { name } = bound.serviceaccount;
    const account = store.find(serviceAccounts, { namespace, name });
    if (account === undefined) refuse(`serviceaccounts "${name}" not found`);
    const uid = (account as StoredObject).metadata.uid;
    if (uid !== bound.serviceaccount.uid) refuse(`service account UID (${uid}) does not match claim (${bound.serviceaccount.uid})`);
    if (bound.pod !== undefined) requirePod(store.find(pods, { namespace, name: bound.pod.name }), bound.pod);
    return {
      authenticated: true,
      user: {
        username: `system:serviceaccount:${namespace}:${name}`,
        uid,
        groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
        extra: extraOf(claims.jti, bound),
      },
      audiences: shared,
    };
  }

  async function verify(token: string) {
    try {
      const { payload } = await jwtVerify(token, () => publicKeyFor(token), {
        issuer,
        algorithms: ['RS256'],
        clockTolerance: leewaySeconds,
      });
      return payload;
    } catch (error) {
      if (error instanceof Refusal) throw error;
      if (error instanceof errors.JWTExpired) return refuse('service account token has expired');
      if (error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf')
        return refuse('service account token is not valid yet');
      if (error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JOSEAlgNotAllowed) {
        return refuse('go-jose/go-jose: error in cryptographic primitive');
      }
      if (error instanceof errors.JOSEError) throw new Refusal('invalid bearer token');
      throw error;
    }
  }

  function publicKeyFor(token: string): KeyObject {
    const [header, claims] = token.split('.').map(decodePart);
    // Another issuer's token is not ours to judge: the real API says no more than this.
    if (claims?.iss !== issuer) throw new Refusal('invalid bearer token');
    if (header?.kid !== keyId) refuse('invalid signature, no keys found');
    return publicKey;
  }
}

async function signingKey(file: string): Promise<KeyObject> {
  try {
    return createPrivateKey(await readFile(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await writeFile(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  return privateKey;
}

function boundClaims(
  store: ObjectStore,
  { metadata }: StoredObject,
  { boundObjectRef }: TokenRequestSpec,
): Pick<KubernetesClaims, 'pod' | 'node'> {
  if (boundObjectRef === undefined) return {};
  const { kind, name = '', uid } = boundObjectRef;
  if (kind !== 'Pod') throw badRequest(`cannot bind token to object of type ${kind}`);
  const pod = store.find(pods, { namespace: metadata.namespace, name });
  if (pod === undefined) throw notFound(pods, name);
  if (uid !== undefined && uid !== pod.metadata.uid) throw conflict(pods, name);
  if ((pod.spec?.serviceAccountName ?? 'default') !== metadata.name) {
    throw badRequest(`cannot bind token for serviceaccount "${metadata.name}" to pod running with different serviceaccount name.`);
  }
  const nodeName = pod.spec?.nodeName;
  const node = typeof nodeName === 'string' ? store.find(nodes, { namespace: undefined, name: nodeName }) : undefined;
  return {
    pod: { name, uid: pod.metadata.uid },
    ...(typeof nodeName === 'string' ? { node: { name: nodeName, uid: node?.metadata.uid ?? '' } } : {}),
  };
}

function requirePod(pod: StoredObject | undefined, { uid }: Reference): void {
  const deleted = pod?.metadata.deletionTimestamp;
  const isGone = deleted !== undefined && Date.parse(deleted) + leewaySeconds * 1000 < Date.now();
  if (pod?.metadata.uid !== uid || isGone) refuse('service account token has been invalidated');
}

function extraOf(jti: string | undefined, { pod, node }: KubernetesClaims): Record<string, string[]> {
  const prefix = 'authentication.kubernetes.io/';
  return {
    ...(jti === undefined ? {} : { [`${prefix}credential-id`]: [`JTI=${jti}`] }),
    ...(node === undefined ? {} : { [`${prefix}node-name`]: [node.name] }),
    ...(node?.uid ? { [`${prefix}node-uid`]: [node.uid] } : {}),
    ...(pod === undefined ? {} : { [`${prefix}pod-name`]: [pod.name], [`${prefix}pod-uid`]: [pod.uid] }),
  };
}

function refuse(reason: string): never {
  throw new Refusal(`[invalid bearer token, ${reason}]`);
}

function list(audiences: readonly string[]): string {
  return `[${audiences.map((audience) => JSON.stringify(audience)).join(' ')}]`;
}

function decodePart(part: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
