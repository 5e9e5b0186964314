/** Who may call the stand-in: its administrator, and every ServiceAccount with a token for the API itself. There is no RBAC. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { issuer, type ServiceAccountTokens } from './service-account-tokens.ts';
import { unauthorized } from './status.ts';

/** Throws ApiError (401) unless `authorization` is a good credential. */
export async function authenticate(
  authorization: string | undefined,
  { adminToken, tokens }: { adminToken: string; tokens: ServiceAccountTokens },
): Promise<void> {
  const token = /^Bearer (\S+)$/.exec(authorization ?? '')?.[1];
  if (token === undefined) throw unauthorized();
  if (timingSafeEqual(digest(token), digest(adminToken))) return;
  const status = await tokens.review(token, [issuer]);
  if (!('authenticated' in status)) throw unauthorized();
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
