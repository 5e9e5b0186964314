/** Who a credential belongs to, and new credentials: the stand-in's administrator and its ServiceAccounts. There is no RBAC: whoever is known may do everything. */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import { type StoredObject, timestamp } from './object.ts';
import type { SigningKey } from './signing-key.ts';
import { unauthorized } from './status.ts';
import type { ObjectStore } from './store.ts';
import { issuer, type ReviewStatus } from './token-claims.ts';
import { grantToken, type TokenRequest } from './token-request.ts';
import { reviewToken } from './token-review.ts';

interface TokensOptions {
  readonly store: ObjectStore;
  readonly key: SigningKey;
  readonly adminToken: string;
  /** The shortest life that may be asked for; the real API's is 600. */
  readonly shortestSeconds: number;
}

export interface Tokens {
  /** `/openid/v1/jwks` */
  readonly jwks: object;
  /** Throws ApiError (401) unless `authorization` is a good credential for the API. */
  authenticate(authorization: string | undefined): Promise<void>;
  /** The `status` of a TokenReview; no audiences means those of the API. */
  review(token: string, audiences: readonly string[]): Promise<ReviewStatus>;
  /** The whole answer to a TokenRequest. Throws ApiError. */
  issue(account: StoredObject, request: TokenRequest): Promise<object>;
}

export function createTokens({ store, key, adminToken, shortestSeconds }: TokensOptions): Tokens {
  const adminDigest = digest(adminToken);
  const review = async (token: string, asked: readonly string[]): Promise<ReviewStatus> => {
    const audiences = asked.length > 0 ? asked : [issuer];
    if (timingSafeEqual(digest(token), adminDigest) && audiences.includes(issuer)) {
      return {
        authenticated: true,
        user: { username: 'admin', uid: '1', groups: ['system:masters', 'system:authenticated'] },
        audiences: [issuer],
      };
    }
    return reviewToken({ store, verified: await key.verify(token, issuer), audiences, now: new Date() });
  };
  return {
    jwks: { keys: [key.jwk] },
    authenticate: async (authorization) => {
      const token = /^Bearer (\S+)$/i.exec(authorization ?? '')?.[1];
      if (token === undefined) throw unauthorized();
      const status = await review(token, [issuer]);
      if (!('authenticated' in status)) throw unauthorized();
    },
    review,
    issue: async (account, request) => {
      const { claims, spec } = grantToken({ store, account, request, shortestSeconds, now: new Date(), newId: randomUUID });
      const { name, namespace, uid } = account.metadata;
      return {
        kind: 'TokenRequest',
        apiVersion: 'authentication.k8s.io/v1',
        metadata: { name, namespace, uid, creationTimestamp: timestamp(new Date(claims.iat * 1000)) },
        spec,
        status: { token: await key.sign(claims), expirationTimestamp: timestamp(new Date(claims.exp * 1000)) },
      };
    },
  };
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
