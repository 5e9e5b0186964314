/**
 * Pure: parses request heads in plain form, which is a small part of HTTP/1.1. A head with anything else is 'unusual', and its connection
 * goes to Node's parser. It never repairs a head. Node's parser accepts every head that it accepts, with the same meaning
 * (test/cache/http/plain-head.test.ts compares both parsers on random heads).
 */
import type { KnownFields } from './known-fields.ts';
import type { ObjectRequest, Terms } from './object-request.ts';
import { readTarget } from './target.ts';

export interface PlainRequest extends ObjectRequest {
  readonly kind: 'request';
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'DELETE';
  readonly ticket: string | undefined;
  /** The received value of `x-kura-caller`. */
  readonly caller: string | undefined;
  /** The received value of `x-kura-terms`. */
  readonly terms: string | undefined;
  /** Length of the head, including the empty line. */
  readonly headBytes: number;
  /** 0 for all methods except PUT. A chunked body is not plain. */
  readonly length: number;
  /** The client closes the connection after this request. */
  readonly isLast: boolean;
}

/** The fields of a head that a shard uses. */
export interface PlainFields
  extends Pick<
    PlainRequest,
    | 'range'
    | 'ifRange'
    | 'ifMatch'
    | 'ifNoneMatch'
    | 'ifModifiedSince'
    | 'ifUnmodifiedSince'
    | 'cacheControl'
    | 'requestId'
    | 'traceparent'
    | 'contentType'
    | 'caller'
    | 'terms'
    | 'isLast'
  > {
  readonly length: number | undefined;
  /** The value of `x-forwarded-proto`. */
  readonly protocol: string | undefined;
}

type Draft<Whole> = { -readonly [Field in keyof Whole]: Whole[Field] };

type PlainHead = PlainRequest | { readonly kind: 'unusual' } | { readonly kind: 'incomplete' };

const noDigests: readonly never[] = [];
const unusual: PlainHead = { kind: 'unusual' };
const incomplete: PlainHead = { kind: 'incomplete' };
/** The characters of a ticket. node-server.ts rejects other tickets. */
const ticketForm = /^[\w.-]+$/;
const requestEnd = ' HTTP/1.1\r\n';
/** Larger heads go to Node's parser, which rejects heads above 16 KiB. */
const maxPlainBytes = 8 * 1024;

/** The characters of a field name (RFC 9110, 5.6.2). */
const isTokenCode = new Uint8Array(256);
for (const letter of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") isTokenCode[letter.charCodeAt(0)] = 1;

/** Fields that change the framing or the response in ways that only Node's parser and node-server.ts implement. */
const unusualFields = new Set([
  'transfer-encoding',
  'expect',
  'upgrade',
  'te',
  'trailer',
  'keep-alive',
  'proxy-connection',
  'http2-settings',
  'content-encoding',
  'content-range',
  'content-md5',
  'content-digest',
  'repr-digest',
  'x-amz-content-sha256',
]);

/** Parses the head at the start of `bytes`. With `known`, it parses fields with a known text only once. */
export function readPlainHead(bytes: Buffer, known?: KnownFields): PlainHead {
  const end = bytes.indexOf('\r\n\r\n', 0, 'latin1');
  if (end === -1) return bytes.length > maxPlainBytes || hasBareLineFeed(bytes) ? unusual : incomplete;
  if (end > maxPlainBytes) return unusual;
  // Includes the line end of the last field, but not the empty line.
  const head = bytes.toString('latin1', 0, end + 2);
  const lineEnd = head.indexOf('\r\n') + 2;
  const method = methodOf(head);
  const targetEnd = lineEnd - requestEnd.length;
  if (method === undefined || targetEnd <= method.length || !head.startsWith(requestEnd, targetEnd)) return unusual;
  const target = readTarget(head.slice(method.length + 1, targetEnd));
  // A fragment is not allowed in a request target. Node's parser decides on it.
  if (target.kind === 'bad-key' || target.kind === 'other-path' || target.key === undefined || target.key.includes('#')) return unusual;
  const ticket = target.kind === 'ticket' ? target.ticket : undefined;
  if (ticket !== undefined && !ticketForm.test(ticket)) return unusual;
  const fields = fieldsOf(head, lineEnd, known);
  if (fields === undefined || (method === 'PUT') !== (fields.length !== undefined)) return unusual;
  // A shard speaks no TLS (node-head.ts).
  const mayRedirect = fields.protocol === undefined || fields.protocol === 'http';
  const route = target.kind !== 'key' || (target.route === 'direct' && !mayRedirect) ? 'objects' : target.route;
  return {
    kind: 'request',
    method,
    key: target.key,
    route: target.kind === 'ticket' ? 'ticket' : route,
    ticket,
    headBytes: end + 4,
    length: fields.length ?? 0,
    isLast: fields.isLast,
    range: fields.range,
    ifRange: fields.ifRange,
    ifMatch: fields.ifMatch,
    ifNoneMatch: fields.ifNoneMatch,
    ifModifiedSince: fields.ifModifiedSince,
    ifUnmodifiedSince: fields.ifUnmodifiedSince,
    cacheControl: fields.cacheControl,
    requestId: fields.requestId,
    traceparent: fields.traceparent,
    contentType: fields.contentType,
    contentEncoding: undefined,
    digests: noDigests,
    caller: fields.caller,
    terms: fields.terms,
    // Admission decides these.
    namespace: undefined,
    serviceAccount: undefined,
    pod: undefined,
    maxObjectBytes: undefined,
    maxShare: undefined,
    version: undefined,
    fill: undefined,
  };
}

function methodOf(head: string): PlainRequest['method'] | undefined {
  if (head.startsWith('GET ')) return 'GET';
  if (head.startsWith('PUT ')) return 'PUT';
  if (head.startsWith('HEAD ')) return 'HEAD';
  return head.startsWith('DELETE ') ? 'DELETE' : undefined;
}

function fieldsOf(head: string, from: number, known: KnownFields | undefined): PlainFields | undefined {
  if (known === undefined) return readFields(head, from);
  const text = head.slice(from);
  const same = known.get(text);
  if (same !== undefined) return same;
  const fields = readFields(head, from);
  if (fields !== undefined) known.note(text, fields);
  return fields;
}

/** Returns undefined if a field is not in plain form. */
function readFields(head: string, from: number): PlainFields | undefined {
  const fields: Draft<PlainFields> = {
    length: undefined,
    isLast: false,
    range: undefined,
    ifRange: undefined,
    ifMatch: undefined,
    ifNoneMatch: undefined,
    ifModifiedSince: undefined,
    ifUnmodifiedSince: undefined,
    cacheControl: undefined,
    requestId: undefined,
    traceparent: undefined,
    contentType: undefined,
    caller: undefined,
    terms: undefined,
    protocol: undefined,
  };
  let hasHost = false;
  let hasConnection = false;
  for (let at = from; at < head.length; ) {
    const colon = nameEnd(head, at);
    if (colon === -1) return undefined;
    let valueStart = colon + 1;
    while (isBlank(head.charCodeAt(valueStart))) valueStart += 1;
    const lineEnd = valueLineEnd(head, valueStart);
    if (lineEnd === -1) return undefined;
    let valueEnd = lineEnd;
    while (valueEnd > valueStart && isBlank(head.charCodeAt(valueEnd - 1))) valueEnd -= 1;
    const name = head.slice(at, colon).toLowerCase();
    if (name === 'host') {
      if (hasHost || valueStart === valueEnd) return undefined;
      hasHost = true;
    } else if (name === 'connection') {
      if (hasConnection) return undefined;
      hasConnection = true;
      const value = head.slice(valueStart, valueEnd).toLowerCase();
      if (value === 'close') fields.isLast = true;
      else if (value !== 'keep-alive') return undefined;
    } else if (!readField(name, head, valueStart, valueEnd, fields)) return undefined;
    at = lineEnd + 2;
  }
  return hasHost ? fields : undefined;
}

/** Stores the fields that a shard uses. Returns false for a repeated or unusual field. */
function readField(name: string, head: string, start: number, end: number, fields: Draft<PlainFields>): boolean {
  switch (name) {
    case 'content-length':
      if (fields.length !== undefined) return false;
      fields.length = wholeNumber(head, start, end);
      return fields.length !== undefined;
    case 'range':
      if (fields.range !== undefined) return false;
      fields.range = head.slice(start, end);
      return true;
    case 'if-range':
      if (fields.ifRange !== undefined) return false;
      fields.ifRange = head.slice(start, end);
      return true;
    case 'if-match':
      if (fields.ifMatch !== undefined) return false;
      fields.ifMatch = head.slice(start, end);
      return true;
    case 'if-modified-since':
      if (fields.ifModifiedSince !== undefined) return false;
      fields.ifModifiedSince = head.slice(start, end);
      return true;
    case 'if-unmodified-since':
      if (fields.ifUnmodifiedSince !== undefined) return false;
      fields.ifUnmodifiedSince = head.slice(start, end);
      return true;
    case 'if-none-match':
      if (fields.ifNoneMatch !== undefined) return false;
      fields.ifNoneMatch = head.slice(start, end);
      return true;
    case 'cache-control':
      if (fields.cacheControl !== undefined) return false;
      fields.cacheControl = head.slice(start, end);
      return true;
    case 'content-type':
      if (fields.contentType !== undefined) return false;
      fields.contentType = head.slice(start, end);
      return true;
    case 'x-kura-caller':
      if (fields.caller !== undefined) return false;
      fields.caller = head.slice(start, end);
      return true;
    case 'x-kura-terms':
      if (fields.terms !== undefined) return false;
      fields.terms = head.slice(start, end);
      return true;
    case 'x-request-id':
      if (fields.requestId !== undefined) return false;
      fields.requestId = head.slice(start, end);
      return true;
    case 'traceparent':
      if (fields.traceparent !== undefined) return false;
      fields.traceparent = head.slice(start, end);
      return true;
    case 'x-forwarded-proto':
      if (fields.protocol !== undefined) return false;
      fields.protocol = head.slice(start, end);
      return true;
    default:
      return !unusualFields.has(name);
  }
}

/** Writes the terms into the head, which becomes the request. A copy would cost more. */
export function completeRequest(head: PlainRequest, terms: Terms): ObjectRequest {
  const request = head as Draft<PlainRequest>;
  request.namespace = terms.namespace;
  request.serviceAccount = terms.serviceAccount;
  request.pod = terms.pod;
  request.maxObjectBytes = terms.maxObjectBytes;
  request.maxShare = terms.maxShare;
  request.route = terms.route;
  request.version = terms.version;
  request.fill = terms.fill;
  return request;
}

/** Node's parser rejects a bare line feed at once. This parser would wait for the end of the head. */
function hasBareLineFeed(bytes: Buffer): boolean {
  for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, at + 1)) if (at === 0 || bytes[at - 1] !== 0x0d) return true;
  return false;
}

/** The position of the colon after a field name, or -1. */
function nameEnd(head: string, from: number): number {
  let at = from;
  while (isTokenCode[head.charCodeAt(at)] === 1) at += 1;
  return at > from && head[at] === ':' ? at : -1;
}

/** The position of the line end after a value of printable ASCII, spaces and tabs, or -1. */
function valueLineEnd(head: string, from: number): number {
  for (let at = from; ; at += 1) {
    const code = head.charCodeAt(at);
    if ((code >= 0x20 && code <= 0x7e) || code === 0x09) continue;
    return code === 0x0d && head.charCodeAt(at + 1) === 0x0a ? at : -1;
  }
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** A number of 1 to 15 digits, or undefined. */
function wholeNumber(head: string, start: number, end: number): number | undefined {
  if (end === start || end - start > 15) return undefined;
  let value = 0;
  for (let at = start; at < end; at += 1) {
    const digit = head.charCodeAt(at) - 0x30;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  return value;
}
