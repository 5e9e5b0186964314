/** Pure: the document `kind: Origins`, which names the storage behind prefixes of keys. authz and the origin service read it alike. */
import type { Node } from 'yaml';
import { canonicalKey, hasDotSegment, maxKeyBytes } from './key.ts';
import { maxSignedNumber, originNameForm } from './signed-terms.ts';
import { type Compiled, readStrictly, type StrictReader } from './strict-reader.ts';

export interface Origin {
  readonly name: string;
  /** Keys that begin with it are of this origin. Ends with a slash. */
  readonly prefix: string;
  readonly source: S3Source | HttpSource | FileSource;
  /** Of an object that is fetched. */
  readonly maxObjectBytes: number;
  /** Part of every shard's bytes, above 0 and at most 1. */
  readonly share: number | undefined;
  /** Requests at the origin at a time, of each replica of the origin service. */
  readonly maxConcurrency: number;
  /** Until the head of a response, and between two parts of its body. */
  readonly timeoutMs: number;
  /** Names or addresses, as in a URL. Redirects may lead there. Loopback and link-local addresses are refused unless they are listed. */
  readonly allowedHosts: readonly string[];
  /** Age at which a stored object is compared with the origin. Undefined: never. */
  readonly revalidateMs: number | undefined;
}

export interface S3Source {
  readonly kind: 's3';
  /** Undefined: the endpoint of AWS for the region. */
  readonly endpoint: string | undefined;
  readonly region: string;
  readonly bucket: string;
  /** Of the keys in the bucket. */
  readonly prefix: string;
  readonly pathStyle: boolean;
}

export interface HttpSource {
  readonly kind: 'http';
  /** Ends with a slash. */
  readonly url: string;
}

export interface FileSource {
  readonly kind: 'file';
  readonly path: string;
}

const nameText = { pattern: originNameForm, form: 'a name of 1 to 63 lower-case letters, digits and -', maxBytes: 63 };
const keyText = { pattern: /^[\x21-\x7e]+$/, form: 'a prefix of printable ASCII', maxBytes: maxKeyBytes };
const hostText = { pattern: /^[\w.:[\]-]+$/, form: 'a host name or an IP address', maxBytes: 253 };
const urlText = { pattern: /^https?:\/\/[\x21-\x7e]+$/, form: 'a URL that begins with http:// or https://', maxBytes: 2_048 };
const pathText = { pattern: /^\/[^\0]*$/, form: 'an absolute path', maxBytes: 4_096 };
const anyText = (maxBytes: number) => ({ pattern: /^[^\0]*$/, form: `text of up to ${maxBytes} bytes`, maxBytes });
const bucketText = { pattern: /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, form: 'a bucket name', maxBytes: 63 };
const regionText = { pattern: /^[a-z0-9-]+$/, form: 'a region such as eu-central-1', maxBytes: 63 };

const hourMs = 3_600_000;
const defaults = { maxObjectBytes: 64 * 2 ** 30, maxConcurrency: 64, timeoutMs: 10_000 };

/** Reads one document. All problems are reported, up to 20. */
export function compileOrigins(text: string): Compiled<readonly Origin[]> {
  const read = readStrictly(text, readDocument);
  return read.kind === 'rejected' ? read : { kind: 'document', value: read.value, warnings: [] };
}

function readDocument(reader: StrictReader, contents: unknown): Origin[] {
  const fields = reader.fields(contents, 'the document', { required: ['apiVersion', 'kind', 'origins'] });
  reader.choice(fields.get('apiVersion') ?? contents, 'apiVersion', ['kura/v1']);
  reader.choice(fields.get('kind') ?? contents, 'kind', ['Origins']);
  const before: Origin[] = [];
  return reader.list(fields.get('origins'), 'origins', (node) => {
    const origin = readOrigin(reader, node);
    for (const other of before) {
      if (other.name === origin.name) reader.wrong(node, `two origins are named "${origin.name}"`);
      else if (other.prefix.startsWith(origin.prefix) || origin.prefix.startsWith(other.prefix))
        reader.wrong(node, `the prefixes of origins ${other.name} and ${origin.name} overlap`);
    }
    before.push(origin);
    return origin;
  });
}

function readOrigin(reader: StrictReader, node: unknown): Origin {
  const fields = reader.fields(node, 'an origin', {
    required: ['name', 'prefix'],
    optional: ['s3', 'http', 'file', 'maxObjectBytes', 'share', 'maxConcurrency', 'timeout', 'allowedHosts', 'revalidate'],
  });
  const name = reader.text(fields.get('name') ?? node, 'name', nameText);
  const what = `origin ${name}`;
  const given = <T>(field: string, read: (value: Node, what: string) => T, otherwise: T): T => {
    const value = fields.get(field);
    return value === undefined ? otherwise : read(value, `${what}: ${field}`);
  };
  return {
    name,
    prefix: readPrefix(reader, fields.get('prefix') ?? node, `${what}: prefix`),
    source: readSource(reader, node, fields, what),
    maxObjectBytes: given(
      'maxObjectBytes',
      (value, at) => reader.bytes(value, at, { min: 0, max: maxSignedNumber }),
      defaults.maxObjectBytes,
    ),
    share: given('share', (value, at) => reader.number(value, at, { min: 0.000_1, max: 1 }), undefined),
    maxConcurrency: given(
      'maxConcurrency',
      (value, at) => Math.floor(reader.number(value, at, { min: 1, max: 10_000 })),
      defaults.maxConcurrency,
    ),
    timeoutMs: given('timeout', (value, at) => reader.duration(value, at, { minMs: 100, maxMs: 60_000 }), defaults.timeoutMs),
    allowedHosts: given(
      'allowedHosts',
      (value, at) => reader.list(value, at, (host) => bare(reader.text(host, `${at}: a host`, hostText))),
      [],
    ),
    revalidateMs: given('revalidate', (value, at) => readRevalidate(reader, value, at), undefined),
  };
}

function readPrefix(reader: StrictReader, node: unknown, what: string): string {
  const prefix = reader.text(node, what, keyText);
  const canonical = canonicalKey(prefix);
  if (canonical === undefined) {
    reader.wrong(node, `${what}: "${prefix}" covers no key: it has a malformed escape, %2F, %5C, %00 or an escaped . or .. segment`);
  } else if (hasDotSegment(prefix)) reader.wrong(node, `${what}: "${prefix}" covers no key: it has a . or .. segment`);
  else if (canonical !== prefix) reader.wrong(node, `${what}: "${prefix}" is not canonical; write "${canonical}"`);
  if (prefix !== '' && !prefix.endsWith('/')) reader.wrong(node, `${what}: "${prefix}" must end with a slash`);
  if (prefix.startsWith('/') || prefix.includes('?')) reader.wrong(node, `${what}: "${prefix}" must not begin with / or contain ?`);
  return prefix;
}

function readSource(reader: StrictReader, node: unknown, fields: ReadonlyMap<string, Node>, what: string): Origin['source'] {
  const given = ['s3', 'http', 'file'].filter((kind) => fields.has(kind));
  if (given.length !== 1) reader.wrong(node, `${what} must have one of s3, http and file; it has ${given.join(' and ') || 'none'}`);
  const [s3, http] = [fields.get('s3'), fields.get('http')];
  if (s3 !== undefined) return readS3(reader, s3, `${what}: s3`);
  if (http !== undefined) return readHttp(reader, http, `${what}: http`);
  const file = reader.fields(fields.get('file') ?? node, `${what}: file`, { required: ['path'] }).get('path');
  return { kind: 'file', path: file === undefined ? '/' : reader.text(file, `${what}: file: path`, pathText) };
}

function readS3(reader: StrictReader, node: Node, what: string): S3Source {
  const fields = reader.fields(node, what, { required: ['bucket', 'region'], optional: ['endpoint', 'prefix', 'pathStyle'] });
  const [endpoint, prefix, pathStyle] = [fields.get('endpoint'), fields.get('prefix'), fields.get('pathStyle')];
  return {
    kind: 's3',
    endpoint: endpoint === undefined ? undefined : readUrl(reader, endpoint, `${what}: endpoint`),
    region: reader.text(fields.get('region') ?? node, `${what}: region`, regionText),
    bucket: reader.text(fields.get('bucket') ?? node, `${what}: bucket`, bucketText),
    prefix: prefix === undefined ? '' : reader.text(prefix, `${what}: prefix`, anyText(maxKeyBytes)),
    pathStyle: pathStyle !== undefined && reader.flag(pathStyle, `${what}: pathStyle`),
  };
}

function readHttp(reader: StrictReader, node: Node, what: string): HttpSource {
  const url = reader.fields(node, what, { required: ['url'] }).get('url');
  if (url === undefined) return { kind: 'http', url: '' };
  const read = readUrl(reader, url, `${what}: url`);
  if (!read.endsWith('/')) reader.wrong(url, `${what}: url "${read}" must end with a slash`);
  return { kind: 'http', url: read };
}

/** A URL holds no credentials, because the document is no Secret. */
function readUrl(reader: StrictReader, node: Node, what: string): string {
  const text = reader.text(node, what, urlText);
  const url = URL.parse(text);
  if (text === '') return text;
  if (url === null) reader.wrong(node, `${what}: "${text}" is not a URL`);
  else if (url.username !== '' || url.password !== '') reader.wrong(node, `${what} must not hold a user name or a password`);
  else if (url.search !== '' || url.hash !== '') reader.wrong(node, `${what}: "${text}" must not have a query or a fragment`);
  return text;
}

function readRevalidate(reader: StrictReader, node: Node, what: string): number | undefined {
  if (String((node as { value?: unknown }).value) === 'never') return undefined;
  return reader.duration(node, `${what}, if it is not never,`, { minMs: 1_000, maxMs: 365 * 24 * hourMs });
}

/** An IPv6 address without its brackets. */
function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
}
