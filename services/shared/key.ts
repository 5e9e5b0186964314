/** Pure: which request targets name an object or a prefix of keys, and the one spelling of a key. Keys are compared byte for byte. */

/** The bytes after `/objects/`, `/direct/` or `/through/`, unchanged. The brand prevents a mix-up with raw URLs and file paths. */
export type Key = string & { readonly brand: 'key' };

export const maxKeyBytes = 1024;
/** The paths of objects: the cache alone; the same for clients that follow redirects; and with a fetch from the origin on a miss. */
const routes = ['objects', 'direct', 'through'] as const;
type KeyRoute = (typeof routes)[number];

export type ParsedTarget =
  | { readonly kind: 'key'; readonly key: Key; readonly route: KeyRoute }
  | { readonly kind: 'bad-key' }
  | { readonly kind: 'other-path' };

/**
 * Parses a request target in origin form. A key is printable ASCII without spaces, and has no `.` or `..` segment that could lead
 * elsewhere.
 */
export function parseTarget(target: string): ParsedTarget {
  for (const route of routes) {
    if (!target.startsWith(`/${route}/`)) continue;
    const key = target.slice(route.length + 2);
    return isKey(key) ? { kind: 'key', key, route } : { kind: 'bad-key' };
  }
  return { kind: 'other-path' };
}

/** The services that work on all keys under a prefix. */
const prefixServices = ['prefetch', 'datasets'] as const;
export type PrefixService = (typeof prefixServices)[number];

export type ParsedPrefixTarget =
  | { readonly kind: 'prefix'; readonly prefix: string; readonly service: PrefixService }
  | { readonly kind: 'bad-prefix' }
  | { readonly kind: 'other-path' };

/** Parses a target of `/prefetch/` or `/datasets/`. The prefix is empty, or a key that ends with a slash. The query belongs to the service. */
export function parsePrefixTarget(target: string): ParsedPrefixTarget {
  for (const service of prefixServices) {
    if (!target.startsWith(`/${service}/`)) continue;
    const prefix = target.slice(service.length + 2).split('?', 1)[0] as string;
    return prefix === '' || (prefix.endsWith('/') && isKey(prefix)) ? { kind: 'prefix', prefix, service } : { kind: 'bad-prefix' };
  }
  return { kind: 'other-path' };
}

export function isKey(text: string): text is Key {
  if (text.length < 1 || text.length > maxKeyBytes) return false;
  let segmentStart = 0;
  for (let at = 0; at <= text.length; at += 1) {
    const code = at === text.length ? slash : text.charCodeAt(at);
    if (code < 0x21 || code > 0x7e) return false;
    if (code !== slash) continue;
    if (isDots(text, segmentStart, at)) return false;
    segmentStart = at + 1;
  }
  return true;
}

/** The characters that a path segment may contain without an escape (RFC 3986, section 3.3). */
const literal = /[A-Za-z0-9\-._~!$&'()*+,;=:@]/;
const escapes = /%([0-9A-Fa-f]{2})/g;
const malformed = /%(?![0-9A-Fa-f]{2})/;
/** A later reader could take them for a separator or for the end of the key. */
const refused = /%(?:2F|5C|00)/i;
const hiddenDots = /(?:^|\/)(?:\.?%2e|%2e\.|%2e%2e)(?=\/|$)/i;

/**
 * The one spelling of a key, a prefix or a path; undefined if it must be rejected. Clients spell one key differently, and the spelling
 * decides object, shard and rule. envoy/grants.lua applies this rule to each request.
 *
 * Up to the first `?`, an escape of a literal character is decoded, and every other escape gets upper-case digits. Each escape is decoded
 * at most once: `%252e` stays. Malformed escapes, `%2F`, `%5C`, `%00` and dot segments that contain an escape are rejected.
 */
export function canonicalKey(text: string): string | undefined {
  const end = text.indexOf('?');
  const path = end < 0 ? text : text.slice(0, end);
  if (!path.includes('%')) return text;
  if (malformed.test(path) || refused.test(path) || hiddenDots.test(path)) return undefined;
  const spelled = path.replace(escapes, (whole, digits: string) => {
    const character = String.fromCharCode(Number.parseInt(digits, 16));
    return literal.test(character) ? character : whole.toUpperCase();
  });
  return spelled + text.slice(path.length);
}

/** Whether a prefix has a whole `.` or `..` segment, so that no key begins with it. */
export function hasDotSegment(prefix: string): boolean {
  return /(?:^|\/)\.\.?\//.test(prefix);
}

const slash = 0x2f;
const dot = 0x2e;

function isDots(text: string, start: number, end: number): boolean {
  const length = end - start;
  return (length === 1 || length === 2) && text.charCodeAt(start) === dot && text.charCodeAt(end - 1) === dot;
}
