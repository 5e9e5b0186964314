/**
 * The two headers with the identity of the caller and its limits. authz signs them for the shards.
 *
 *     x-kura-caller: <namespace>/<service account>/<pod, or ->
 *     x-kura-terms: max-object-bytes=<n>[; max-share=<ratio>][; direct=no][<fill terms>][; manage=yes]; exp=<unix seconds>; sig=<signature>
 *     fill terms: ; fill=<origin>[; fill-share=<ratio>][; revalidate=<seconds>][; prefetch=yes]
 *
 * The signature is HMAC-SHA-256, in base64url without padding, over three parts: the caller, a line feed, and the terms before `; sig=`. A
 * header contains no line feed, so two different pairs of headers never have the same signed text. Unknown terms are ignored, because the
 * signature covers them.
 */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';

export interface SignedCaller {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Undefined for a token that is bound to no Pod. */
  readonly pod: string | undefined;
}

export interface SignedTerms {
  readonly maxObjectBytes: number;
  /** Above 0, up to 1. */
  readonly maxShare: number | undefined;
  /** Whether a shard may redirect the request to its own address. */
  readonly mayRedirect: boolean;
  /** Absent: a miss stays a miss. */
  readonly fill?: FillTerms | undefined;
  /** Whether the caller may list and remove what a shard stores. Only the console signs it. */
  readonly mayManage?: boolean;
  readonly expiresAtSeconds: number;
}

/** From where a miss may be fetched, and how. */
export interface FillTerms {
  /** Name of the origin. */
  readonly origin: string;
  /** Part of the shard for the objects of this origin, above 0 and at most 1. */
  readonly share: number | undefined;
  /** Age at which a stored object is compared with the origin. Undefined: never. */
  readonly revalidateSeconds: number | undefined;
  /** The request of a prefetch job. Other fills go first. */
  readonly isPrefetch: boolean;
}

interface HeaderPair {
  /** `x-kura-caller` */
  readonly caller: string;
  /** `x-kura-terms` */
  readonly terms: string;
}

type SignedHeaders =
  | { readonly kind: 'good'; readonly caller: SignedCaller; readonly terms: SignedTerms }
  /** The signature is of no known key. */
  | { readonly kind: 'forged' }
  /** The headers do not have the format above. */
  | { readonly kind: 'malformed' };

/** The largest number of a term, 15 digits: 909 TiB. The policy accepts no larger size, because a shard would refuse every request with it. */
export const maxSignedNumber = 10 ** 15 - 1;
const signatureStart = '; sig=';
const noPod = '-';
const nameForm = /^[\w.-]{1,253}$/;
/** Also the name of the folder with the credentials of the origin. */
export const originNameForm = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** The values of both headers. Without a key, the terms have no signature. Throws an Error for a name with other characters. */
export function signHeaders(key: KeyObject | undefined, caller: SignedCaller, terms: SignedTerms): HeaderPair {
  const [callerText, termsText] = [formatCaller(caller), formatTerms(terms)];
  if (key === undefined) return { caller: callerText, terms: termsText };
  return { caller: callerText, terms: termsText + signatureStart + signatureOf(key, callerText, termsText) };
}

/** Reads both headers if their signature is of one of the keys. Without keys, it ignores the signature. It does not check the expiry. */
export function readHeaders(keys: readonly KeyObject[] | undefined, { caller, terms }: HeaderPair): SignedHeaders {
  const end = terms.lastIndexOf(signatureStart);
  const text = end === -1 ? terms : terms.slice(0, end);
  if (keys !== undefined) {
    if (end === -1) return { kind: 'malformed' };
    const given = Buffer.from(terms.slice(end + signatureStart.length));
    if (!keys.some((key) => isSame(given, Buffer.from(signatureOf(key, caller, text))))) return { kind: 'forged' };
  }
  const [readCaller, readTerms] = [parseCaller(caller), parseTerms(text)];
  return readCaller === undefined || readTerms === undefined
    ? { kind: 'malformed' }
    : { kind: 'good', caller: readCaller, terms: readTerms };
}

export function formatCaller({ namespace, serviceAccount, pod = noPod }: SignedCaller): string {
  const names = [namespace, serviceAccount, pod];
  const wrong = names.find((name) => !nameForm.test(name));
  if (wrong !== undefined) throw new Error(`the name ${JSON.stringify(wrong)} of a caller is not 1 to 253 letters, digits, _, - and .`);
  return names.join('/');
}

export function parseCaller(text: string): SignedCaller | undefined {
  const names = text.split('/');
  if (names.length !== 3 || !names.every((name) => nameForm.test(name))) return undefined;
  const [namespace, serviceAccount, pod] = names as [string, string, string];
  return { namespace, serviceAccount, pod: pod === noPod ? undefined : pod };
}

function formatTerms({ maxObjectBytes, maxShare, mayRedirect, fill, mayManage, expiresAtSeconds }: SignedTerms): string {
  const share = maxShare === undefined ? '' : `; max-share=${maxShare}`;
  const direct = mayRedirect ? '' : '; direct=no';
  const further = `${fill === undefined ? '' : formatFill(fill)}${mayManage === true ? '; manage=yes' : ''}`;
  return `max-object-bytes=${maxObjectBytes}${share}${direct}${further}; exp=${expiresAtSeconds}`;
}

function formatFill({ origin, share, revalidateSeconds, isPrefetch }: FillTerms): string {
  const ofShare = share === undefined ? '' : `; fill-share=${share}`;
  const revalidate = revalidateSeconds === undefined ? '' : `; revalidate=${revalidateSeconds}`;
  return `; fill=${origin}${ofShare}${revalidate}${isPrefetch ? '; prefetch=yes' : ''}`;
}

/** Undefined if a term is missing, repeated or malformed. */
function parseTerms(text: string): SignedTerms | undefined {
  const values = new Map<string, string>();
  for (const term of text.split('; ')) {
    const [, name, value] = /^([a-z-]+)=([!-:<-~]+)$/.exec(term) ?? [];
    if (name === undefined || value === undefined || values.has(name)) return undefined;
    values.set(name, value);
  }
  const maxObjectBytes = wholeNumber(values.get('max-object-bytes'));
  const maxShare = optional(values.get('max-share'), parseShare);
  const direct = values.get('direct');
  const fill = parseFill(values);
  const manage = values.get('manage');
  const expiresAtSeconds = wholeNumber(values.get('exp'));
  if (maxObjectBytes === undefined || expiresAtSeconds === undefined) return undefined;
  if (maxShare === 'malformed' || fill === 'malformed' || (direct !== undefined && direct !== 'no')) return undefined;
  if (manage !== undefined && manage !== 'yes') return undefined;
  const further = { ...(fill === undefined ? {} : { fill }), ...(manage === undefined ? {} : { mayManage: true }) };
  return { maxObjectBytes, maxShare, mayRedirect: direct === undefined, ...further, expiresAtSeconds };
}

function parseFill(values: ReadonlyMap<string, string>): FillTerms | undefined | 'malformed' {
  const origin = values.get('fill');
  if (origin === undefined) return undefined;
  const share = optional(values.get('fill-share'), parseShare);
  const revalidateSeconds = optional(values.get('revalidate'), wholeNumber);
  const prefetch = values.get('prefetch');
  if (share === 'malformed' || revalidateSeconds === 'malformed' || !originNameForm.test(origin)) return 'malformed';
  if (prefetch !== undefined && prefetch !== 'yes') return 'malformed';
  return { origin, share, revalidateSeconds, isPrefetch: prefetch === 'yes' };
}

/** Undefined for a term that is absent. */
function optional(text: string | undefined, parse: (text: string) => number | undefined): number | undefined | 'malformed' {
  return text === undefined ? undefined : (parse(text) ?? 'malformed');
}

function parseShare(text: string): number | undefined {
  if (!/^[01](\.\d{1,20})?$/.test(text)) return undefined;
  const share = Number(text);
  return share > 0 && share <= 1 ? share : undefined;
}

function wholeNumber(text = ''): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function signatureOf(key: KeyObject, caller: string, terms: string): string {
  return createHmac('sha256', key).update(`${caller}\n${terms}`).digest('base64url');
}

/** Compares the text, because several texts in base64url can decode to the same bytes. */
function isSame(given: Buffer, right: Buffer): boolean {
  return given.length === right.length && timingSafeEqual(given, right);
}
