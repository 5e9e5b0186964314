/**
 * Checks the credentials of the administrator and of ServiceAccounts, and issues tokens. There is no RBAC: an authenticated client may do
 * everything.
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import { type StoredObject, timestamp } from './object.ts';
import type { SigningKey } from './signing-key.ts';
import { unauthorized } from './status.ts';
import type { ObjectStore } from './store.ts';
import { grantToken, issuer, type TokenClaims, type TokenRequest } from './token-request.ts';
import { type ReviewStatus, reviewClaims } from './token-review.ts';

interface TokensOptions {
  readonly store: ObjectStore;
  readonly key: SigningKey;
  readonly adminToken: string;
  /** The minimum lifetime of a token; 600 in the real API. */
  readonly minSeconds: number;
}

export class Tokens {
  readonly #options: TokensOptions;
  readonly #adminDigest: Buffer;

  constructor(options: TokensOptions) {
    this.#options = options;
    this.#adminDigest = digest(options.adminToken);
  }

  /** `/openid/v1/jwks` */
  get jwks(): object {
    return { keys: [this.#options.key.jwk] };
  }

  /** Throws ApiError (401) unless `authorization` contains a valid token for the API. */
  async authenticate(authorization: string | undefined): Promise<void> {
    const token = /^Bearer (\S+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined || !('authenticated' in (await this.review(token, [])))) throw unauthorized();
  }

  /** The `status` of a TokenReview. Without audiences, the API's own audience counts. */
  async review(token: string, asked: readonly string[]): Promise<ReviewStatus> {
    const audiences = asked.length > 0 ? asked : [issuer];
    if (timingSafeEqual(digest(token), this.#adminDigest) && audiences.includes(issuer)) {
      const user = { username: 'admin', uid: '1', groups: ['system:masters', 'system:authenticated'] };
      return { authenticated: true, user, audiences: [issuer] };
    }
    const verified = await this.#options.key.verify(token, issuer);
    if ('error' in verified) return { user: {}, error: verified.error };
    return reviewClaims(this.#options.store, { claims: verified.claims as unknown as TokenClaims, audiences, now: new Date() });
  }

  /** The complete response to a TokenRequest. Throws ApiError. */
  async issue(account: StoredObject, request: TokenRequest): Promise<object> {
    const { store, key, minSeconds } = this.#options;
    const { claims, spec } = grantToken({ store, account, request, minSeconds, now: new Date(), newId: randomUUID });
    const { name, namespace, uid } = account.metadata;
    return {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { name, namespace, uid, creationTimestamp: timestamp(new Date(claims.iat * 1000)) },
      spec,
      status: { token: await key.sign(claims), expirationTimestamp: timestamp(new Date(claims.exp * 1000)) },
    };
  }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
