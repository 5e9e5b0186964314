/** The key that ServiceAccount tokens are signed with: RS256, as the real API's. */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { CompactSign, compactVerify, errors, exportJWK, type JWK } from 'jose';
import { readOrMake } from './files.ts';

export type VerifiedToken =
  | { readonly kind: 'claims'; readonly claims: Readonly<Record<string, unknown>> }
  /** Another issuer's, or no token at all: not ours to judge. */
  | { readonly kind: 'foreign' }
  | { readonly kind: 'unknown-key' }
  | { readonly kind: 'bad-signature' };

export interface SigningKey {
  /** Public part, as `/openid/v1/jwks` shows it. */
  readonly jwk: JWK;
  sign(claims: object): Promise<string>;
  /** Checks issuer and signature and nothing else. */
  verify(token: string, issuer: string): Promise<VerifiedToken>;
}

/** Reads the key file (PEM, 0600), or makes it. */
export async function openSigningKey(file: string): Promise<SigningKey> {
  const pem = await readOrMake(file, () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  });
  const privateKey = createPrivateKey(pem);
  const publicKey = createPublicKey(privateKey);
  const keyId = createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64url');
  return {
    jwk: { use: 'sig', kid: keyId, alg: 'RS256', ...(await exportJWK(publicKey)) },
    sign: (claims) =>
      new CompactSign(Buffer.from(JSON.stringify(claims))).setProtectedHeader({ alg: 'RS256', kid: keyId }).sign(privateKey),
    verify: (token, issuer) => verify({ token, issuer, keyId, publicKey }),
  };
}

async function verify({
  token,
  issuer,
  keyId,
  publicKey,
}: {
  token: string;
  issuer: string;
  keyId: string;
  publicKey: KeyObject;
}): Promise<VerifiedToken> {
  const parts = token.split('.');
  const [header, claims] = parts.map(decode);
  if (parts.length !== 3 || claims?.iss !== issuer) return { kind: 'foreign' };
  if (header?.kid !== undefined && header.kid !== keyId) return { kind: 'unknown-key' };
  try {
    await compactVerify(token, publicKey, { algorithms: ['RS256'] });
    return { kind: 'claims', claims };
  } catch (error) {
    if (error instanceof errors.JOSEError) return { kind: 'bad-signature' };
    throw error;
  }
}

function decode(part: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(Buffer.from(part, 'base64url').toString()) as unknown;
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
