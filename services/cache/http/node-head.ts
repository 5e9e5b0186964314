/** Converts the head of a request from Node's parser. plain-head.ts parses the heads of plain requests. */
import type { IncomingMessage } from 'node:http';
import type { Applicant } from './admission.ts';
import { readDigests } from './digests.ts';
import type { ObjectRequest } from './object-request.ts';
import type { ProblemCode } from './problems.ts';
import { readTarget } from './target.ts';

export type NodeHead =
  | { readonly kind: 'health' }
  /** Everything under `/datasets`. */
  | { readonly kind: 'datasets'; readonly target: string }
  /** `OPTIONS *`. */
  | { readonly kind: 'options' }
  | { readonly kind: 'request'; readonly applicant: Applicant & ObjectRequest }
  /** Reported only after admission. */
  | { readonly kind: 'problem'; readonly applicant: Applicant; readonly code: ProblemCode };

export function readNodeHead({ method = '', url = '', headers }: IncomingMessage): NodeHead {
  const path = originForm(url);
  if (path === '/healthz') return { kind: 'health' };
  if (/^\/datasets(?:[/?]|$)/.test(path)) return { kind: 'datasets', target: path };
  if (path === '*' && method === 'OPTIONS') return { kind: 'options' };
  const target = readTarget(path);
  const ticket = target.kind === 'ticket' ? target.ticket : undefined;
  const key = target.kind === 'key' || target.kind === 'ticket' ? target.key : undefined;
  const route = target.kind !== 'key' || (target.route === 'direct' && !mayRedirect(headers)) ? 'objects' : target.route;
  const digests = method === 'PUT' ? readDigests({ md5: single(headers['content-md5']), digests: digestFields(headers) }) : [];
  const applicant = {
    method,
    ticket,
    caller: single(headers['x-kura-caller']),
    terms: single(headers['x-kura-terms']),
    route: ticket === undefined ? route : 'ticket',
    version: undefined,
    // Admission decides these.
    namespace: undefined,
    serviceAccount: undefined,
    pod: undefined,
    maxObjectBytes: undefined,
    maxShare: undefined,
    fill: undefined,
    length: bodyLength(headers),
    contentType: headers['content-type'],
    contentEncoding: single(headers['content-encoding']),
    digests: digests ?? [],
    range: headers.range,
    ifRange: single(headers['if-range']),
    ifMatch: headers['if-match'],
    ifNoneMatch: headers['if-none-match'],
    ifModifiedSince: headers['if-modified-since'],
    ifUnmodifiedSince: headers['if-unmodified-since'],
    cacheControl: headers['cache-control'],
    requestId: single(headers['x-request-id']),
    traceparent: single(headers.traceparent),
  } as const;
  const problem = (code: ProblemCode): NodeHead => ({ kind: 'problem', applicant: { ...applicant, key }, code });
  if (key === undefined) return problem(target.kind === 'bad-key' ? 'bad-key' : 'no-such-path');
  const code = method === 'PUT' ? uploadProblem(headers, digests) : undefined;
  return code === undefined ? { kind: 'request', applicant: { ...applicant, key } } : problem(code);
}

/** The problem of an upload that the shard would store wrongly: a part of an object, an unknown coding, or a malformed digest. */
function uploadProblem(headers: IncomingMessage['headers'], digests: readonly unknown[] | undefined): ProblemCode | undefined {
  const transferEncoding = headers['transfer-encoding'];
  // RFC 9112, 6.1: a server that does not understand a transfer coding responds with 501.
  if (transferEncoding !== undefined && transferEncoding.trim().toLowerCase() !== 'chunked') return 'unsupported-transfer-encoding';
  // RFC 9110, 14.5: a partial PUT must not replace the whole object.
  if (headers['content-range'] !== undefined) return 'partial-upload';
  const isAwsChunked = (single(headers['content-encoding']) ?? '')
    .split(',')
    .some((coding) => coding.trim().toLowerCase() === 'aws-chunked');
  if (isAwsChunked || (single(headers['x-amz-content-sha256']) ?? '').startsWith('STREAMING-')) return 'unsupported-encoding';
  return digests === undefined ? 'bad-digest' : undefined;
}

function digestFields(headers: IncomingMessage['headers']): string[] {
  return [headers['content-digest'], headers['repr-digest']].flatMap((field) => field ?? []);
}

export function isExpecting({ headers }: IncomingMessage): boolean {
  return /^100-continue$/i.test(headers.expect ?? '');
}

/** Whether the body may be redirected. A shard has no TLS, so a request that reached Envoy over TLS is not redirected. */
function mayRedirect(headers: IncomingMessage['headers']): boolean {
  return (headers['x-forwarded-proto'] ?? 'http') === 'http';
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

/** Node joins a repeated field with commas, which makes its signature invalid. A list of values is ignored. */
function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? undefined : value;
}
