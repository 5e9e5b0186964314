/** The format of a ticket: its fields and an HMAC, which only the shard that issued it can check. The fields are not secret. */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { Key } from '../../shared/key.ts';

/** Identity and limits of the client. */
export interface Caller {
  readonly namespace: string | undefined;
  readonly serviceAccount: string | undefined;
  readonly pod: string | undefined;
  readonly maxObjectBytes: number | undefined;
  /** Above 0, up to 1. */
  readonly maxShare: number | undefined;
}

/** The request that a ticket is valid for. The seal covers both fields, and the request repeats them. */
export interface Transfer {
  readonly method: string;
  readonly key: Key;
}

export interface Ticket extends Caller {
  /** On the clock of the shard that issued it. */
  readonly endsMs: number;
  /** For GET: the ETag of the only version that it is valid for. */
  readonly version: string | undefined;
  /** For PUT: identifies the ticket, so that the shard accepts it only once. */
  readonly nonce: string | undefined;
}

type Text = string | undefined;
/** The fields in the order of the text of a ticket. */
type Content = [
  endsMs: number,
  version: Text,
  nonce: Text,
  namespace: Text,
  account: Text,
  pod: Text,
  maxObjectBytes: number | undefined,
  maxShare: number | undefined,
];

/** Returns two parts of base64url, separated by a dot. */
export function sealTicket(secret: KeyObject, transfer: Transfer, ticket: Ticket): string {
  const { endsMs, version, nonce, namespace, serviceAccount, pod, maxObjectBytes, maxShare } = ticket;
  const content: Content = [endsMs, version, nonce, namespace, serviceAccount, pod, maxObjectBytes, maxShare];
  const text = Buffer.from(JSON.stringify(content)).toString('base64url');
  return `${text}.${sealOf(secret, transfer, text)}`;
}

/** Returns undefined unless it was sealed with this secret for this transfer. Seals are compared as text, because base64 is ambiguous. */
export function openTicket(secret: KeyObject, transfer: Transfer, sealed: string): Ticket | undefined {
  const dot = sealed.indexOf('.');
  if (dot === -1) return undefined;
  const text = sealed.slice(0, dot);
  const given = Buffer.from(sealed.slice(dot + 1));
  const right = Buffer.from(sealOf(secret, transfer, text));
  if (given.length !== right.length || !timingSafeEqual(given, right)) return undefined;
  // JSON has null in place of undefined.
  const fields = (JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[]).map((field) => field ?? undefined);
  const [endsMs, version, nonce, namespace, serviceAccount, pod, maxObjectBytes, maxShare] = fields as Content;
  return { endsMs, version, nonce, namespace, serviceAccount, pod, maxObjectBytes, maxShare };
}

/** A line feed separates the parts: neither a method nor a key contains one. */
function sealOf(secret: KeyObject, { method, key }: Transfer, text: string): string {
  return createHmac('sha256', secret).update(`${method}\n${key}\n${text}`).digest('base64url');
}
