/** Checks a token without the Kubernetes API: its form, audience, times and signature. Most forged tokens are refused here. */
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from 'jose';
import type { KeyLookup } from './jwks.ts';
import { isSignedBy } from './signature.ts';

export type LocalCheck =
  /** The token passed all checks; `expiresAt` in milliseconds since the epoch. */
  | { readonly kind: 'plausible'; readonly expiresAt: number }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'unavailable'; readonly reason: string };

/** The clocks of a cluster's machines differ by less than this. */
export const clockSkewMs = 30_000;
export const maxTokenBytes = 8 * 1024;

interface Header {
  readonly kid?: string;
  readonly alg?: string;
  /** Extensions that a verifier must understand. kura supports none, so any value is refused. */
  readonly crit?: unknown;
}

/** The cheap checks come first, so only a token that passes them costs a signature verification. */
export function createLocalCheck({
  audience,
  findKey,
  now,
}: {
  audience: string;
  findKey: (id: string | undefined) => Promise<KeyLookup>;
  now: () => number;
}): (token: string) => Promise<LocalCheck> {
  return async (token) => {
    if (token.length > maxTokenBytes) return refused(`the token is longer than ${maxTokenBytes} bytes`);
    const parts = read(token);
    if (parts === undefined) return refused('the token is not a JWT');
    const { claims, header } = parts;
    const problem = claimsProblem(claims, { audience, now: now() });
    if (problem !== undefined) return refused(problem);
    const lookup = await findKey(header.kid);
    const plausible: LocalCheck = { kind: 'plausible', expiresAt: (claims.exp ?? 0) * 1000 };
    switch (lookup.kind) {
      case 'unchecked':
        return plausible;
      case 'no-such-key':
        return refused('the token is not signed by this cluster');
      case 'unavailable':
        return { kind: 'unavailable', reason: "the cluster's signing keys cannot be read" };
      case 'key': {
        const isGood = header.alg === lookup.key.algorithm && header.crit === undefined && isSignedBy(token, lookup.key);
        return isGood ? plausible : refused('the token is not signed by this cluster');
      }
      default:
        return lookup satisfies never;
    }
  };
}

/** Three parts in strict base64url. A lenient decoder would accept many spellings of one token, and each would cost a review. */
const compactForm = /^[\w-]+\.[\w-]+\.[\w-]+$/;

function read(token: string): { claims: JWTPayload; header: Header } | undefined {
  if (!compactForm.test(token)) return undefined;
  try {
    return { claims: decodeJwt(token), header: decodeProtectedHeader(token) as Header };
  } catch {
    return undefined;
  }
}

function claimsProblem({ aud, exp, nbf }: JWTPayload, { audience, now }: { audience: string; now: number }): string | undefined {
  const audiences: unknown[] = [aud].flat();
  if (!audiences.includes(audience)) return 'the token has another audience';
  if (exp !== undefined && !(typeof exp === 'number' && exp * 1000 + clockSkewMs > now)) return 'the token has expired';
  if (nbf !== undefined && !(typeof nbf === 'number' && nbf * 1000 - clockSkewMs <= now)) return 'the token is not valid yet';
  return undefined;
}

function refused(reason: string): LocalCheck {
  return { kind: 'refused', reason };
}
