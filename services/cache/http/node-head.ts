/** Reads the head of a request that came by Node's parser. plain-head.ts does the same for plain requests. */
import type { IncomingMessage } from 'node:http';
import { readShare } from '../index/shares.ts';
import type { Applicant } from './admission.ts';
import type { ObjectRequest } from './object-request.ts';
import type { ProblemCode } from './problems.ts';
import { readTarget } from './target.ts';

export type NodeHead =
  | { readonly kind: 'health' }
  | { readonly kind: 'request'; readonly applicant: Applicant & ObjectRequest }
  /** Reported only after admission. */
  | { readonly kind: 'problem'; readonly applicant: Applicant; readonly code: ProblemCode };

export function readNodeHead({ method = '', url = '', headers }: IncomingMessage): NodeHead {
  const path = originForm(url);
  if (path === '/healthz') return { kind: 'health' };
  const target = readTarget(path);
  const limit = single(headers['x-kura-max-object-bytes']);
  const share = single(headers['x-kura-max-share']);
  const maxShare = share === undefined ? undefined : readShare(share);
  const ticket = target.kind === 'ticket' ? target.ticket : undefined;
  const key = target.kind === 'key' || target.kind === 'ticket' ? target.key : undefined;
  const isDirect = target.kind === 'key' && target.isDirect && mayRedirect(headers);
  const applicant = {
    method,
    ticket,
    credential: single(headers['x-kura-credential']),
    route: ticket !== undefined ? 'ticket' : isDirect ? 'direct' : 'objects',
    version: undefined,
    namespace: single(headers['x-kura-namespace']),
    serviceAccount: single(headers['x-kura-service-account']),
    maxObjectBytes: limit === undefined ? undefined : Number(limit),
    maxShare,
    length: bodyLength(headers),
    contentType: headers['content-type'],
    range: headers.range,
    ifRange: single(headers['if-range']),
    ifNoneMatch: headers['if-none-match'],
  } as const;
  const problem = (code: ProblemCode): NodeHead => ({ kind: 'problem', applicant: { ...applicant, key }, code });
  if (key === undefined) return problem(target.kind === 'bad-key' ? 'bad-key' : 'no-such-path');
  // A ticket brings its own terms.
  const isWrong = (limit !== undefined && !/^\d{1,15}$/.test(limit)) || (share !== undefined && maxShare === undefined);
  if (isWrong && ticket === undefined) return problem('bad-header');
  return { kind: 'request', applicant: { ...applicant, key } };
}

export function isExpecting({ headers }: IncomingMessage): boolean {
  return /^100-continue$/i.test(headers.expect ?? '');
}

/**
 * Whether the body may be redirected. A shard speaks no TLS, so a request that reached Envoy by TLS stays there; and a namespace whose bytes authz counts must pass Envoy
 * (`x-kura-direct: no`).
 */
function mayRedirect(headers: IncomingMessage['headers']): boolean {
  return (headers['x-forwarded-proto'] ?? 'http') === 'http' && headers['x-kura-direct'] === undefined;
}

/** RFC 9112, 3.2.2: a server accepts the absolute form too. */
function originForm(target: string): string {
  const match = /^http:\/\/[^/?#]*(?=\/)/i.exec(target);
  return match === null ? target : target.slice(match[0].length);
}

/** Without Content-Length and Transfer-Encoding a request has no body (RFC 9112, 6.3). */
function bodyLength(headers: IncomingMessage['headers']): number | undefined {
  if (headers['content-length'] !== undefined) return Number(headers['content-length']);
  return headers['transfer-encoding'] === undefined ? 0 : undefined;
}

/** Node joins the lines of a field with a comma, and no credential is right after that. */
function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? undefined : value;
}
