/** A ticket's form: what it says, sealed so that only who made it can tell a good one. Whoever holds one can read it; it has no secret in it. */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { Key } from '../../shared/key.ts';

/** Who asks, as Envoy says. */
export interface Caller {
  readonly namespace: string | undefined;
  readonly serviceAccount: string | undefined;
  readonly maxObjectBytes: number | undefined;
  /** Above 0, up to 1. */
  readonly maxShare: number | undefined;
}

/** What a ticket is good for; both are under its seal, and the request names them again. */
export interface Transfer {
  readonly method: string;
  readonly key: Key;
}

export interface Ticket extends Caller {
  /** On the clock of its maker. */
  readonly endsMs: number;
  /** Of a GET: the ETag of the one version that it opens. */
  readonly version: string | undefined;
  /** Of a PUT: by which its maker knows it, to let it in once. */
  readonly nonce: string | undefined;
}

type Text = string | undefined;
/** In the order of a ticket's text. */
type Content = [
  endsMs: number,
  version: Text,
  nonce: Text,
  namespace: Text,
  account: Text,
  maxObjectBytes: number | undefined,
  maxShare: number | undefined,
];

/** Two parts of base64url with a dot between. */
export function sealTicket(secret: KeyObject, transfer: Transfer, ticket: Ticket): string {
  const { endsMs, version, nonce, namespace, serviceAccount, maxObjectBytes, maxShare } = ticket;
  const content: Content = [endsMs, version, nonce, namespace, serviceAccount, maxObjectBytes, maxShare];
  const text = Buffer.from(JSON.stringify(content)).toString('base64url');
  return `${text}.${sealOf(secret, transfer, text)}`;
}

/** Undefined unless it was sealed with this secret for this transfer. The seal is compared as text: base64 has several spellings of the same bytes. */
export function openTicket(secret: KeyObject, transfer: Transfer, sealed: string): Ticket | undefined {
  const dot = sealed.indexOf('.');
  if (dot === -1) return undefined;
  const text = sealed.slice(0, dot);
  const given = Buffer.from(sealed.slice(dot + 1));
  const right = Buffer.from(sealOf(secret, transfer, text));
  if (given.length !== right.length || !timingSafeEqual(given, right)) return undefined;
  // undefined is null in JSON.
  const fields = (JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[]).map((field) => field ?? undefined);
  const [endsMs, version, nonce, namespace, serviceAccount, maxObjectBytes, maxShare] = fields as Content;
  return { endsMs, version, nonce, namespace, serviceAccount, maxObjectBytes, maxShare };
}

/** Neither a method nor a key has a line end in it. */
function sealOf(secret: KeyObject, { method, key }: Transfer, text: string): string {
  return createHmac('sha256', secret).update(`${method}\n${key}\n${text}`).digest('base64url');
}
