import { createSign } from 'node:crypto';

interface Parts {
  readonly header?: Readonly<Record<string, unknown>>;
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** Decodes the claims of a JWT without verification. */
export function claimsOf(token: string): Record<string, unknown> {
  return decode(token.split('.')[1] as string);
}

/**
 * Replaces claims of a token and signs it again, to make expired, not yet valid or foreign tokens. `key` is the issuer's private key
 * (PEM).
 */
export function remint(token: string, key: string, { header = {}, claims = {} }: Parts): string {
  const [head, body] = token.split('.') as [string, string];
  const signed = `${encode({ ...decode(head), ...header })}.${encode({ ...decode(body), ...claims })}`;
  return `${signed}.${createSign('RSA-SHA256').update(signed).sign(key, 'base64url')}`;
}

function decode(part: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
}

function encode(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}
