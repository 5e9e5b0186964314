/** The key that signs ServiceAccount tokens: RS256, like that of the real API. */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { CompactSign, compactVerify, decodeJwt, errors, exportJWK, type JWK, type JWTPayload } from 'jose';
import { readOrMake } from './files.ts';

export class SigningKey {
  /** The public key as in `/openid/v1/jwks`. */
  readonly jwk: JWK;
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #keyId: string;

  /** Reads the key file (PEM, 0600), or creates it. */
  static async open(file: string): Promise<SigningKey> {
    const pem = await readOrMake(file, () => {
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    });
    const publicKey = createPublicKey(pem);
    return new SigningKey(createPrivateKey(pem), publicKey, await exportJWK(publicKey));
  }

  private constructor(privateKey: KeyObject, publicKey: KeyObject, jwk: JWK) {
    this.#privateKey = privateKey;
    this.#publicKey = publicKey;
    this.#keyId = createHash('sha256')
      .update(publicKey.export({ type: 'spki', format: 'der' }))
      .digest('base64url');
    this.jwk = { use: 'sig', kid: this.#keyId, alg: 'RS256', ...jwk };
  }

  async sign(claims: object): Promise<string> {
    const payload = Buffer.from(JSON.stringify(claims));
    return await new CompactSign(payload).setProtectedHeader({ alg: 'RS256', kid: this.#keyId }).sign(this.#privateKey);
  }

  /** Checks only issuer and signature. Returns the claims, or an error with the text of the real API. */
  async verify(token: string, issuer: string): Promise<{ readonly claims: JWTPayload } | { readonly error: string }> {
    try {
      if (decodeJwt(token).iss !== issuer) return { error: 'invalid bearer token' };
    } catch {
      return { error: 'invalid bearer token' };
    }
    try {
      const { payload } = await compactVerify(token, ({ kid }) => this.#keyFor(kid), { algorithms: ['RS256'] });
      return { claims: JSON.parse(Buffer.from(payload).toString()) as JWTPayload };
    } catch (error) {
      if (error instanceof errors.JOSEError) return { error: '[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]' };
      throw error;
    }
  }

  /** A token without a key id may still have a valid signature. */
  #keyFor(kid: string | undefined): KeyObject {
    if (kid !== undefined && kid !== this.#keyId) throw new errors.JWKSNoMatchingKey();
    return this.#publicKey;
  }
}
