/** Pure: which request targets name an object. Keys are compared byte for byte; nothing here decodes, joins or cleans one. */

/** The bytes after `/objects/` or `/direct/`, exactly as they came. The brand keeps raw URLs and file paths out. */
export type Key = string & { readonly brand: 'key' };

export const maxKeyBytes = 1024;
const objectsPath = '/objects/';
/** The same objects, for clients that follow redirects. */
const directPath = '/direct/';

export type ParsedTarget =
  | { readonly kind: 'key'; readonly key: Key; readonly isDirect: boolean }
  | { readonly kind: 'bad-key' }
  | { readonly kind: 'other-path' };

/** Reads a request target in origin form. Printable ASCII without space; no `.` or `..` segment, so that no later reader of a key can be led elsewhere. */
export function parseTarget(target: string): ParsedTarget {
  const isDirect = target.startsWith(directPath);
  if (!isDirect && !target.startsWith(objectsPath)) return { kind: 'other-path' };
  const key = target.slice(isDirect ? directPath.length : objectsPath.length);
  return isKey(key) ? { kind: 'key', key, isDirect } : { kind: 'bad-key' };
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

const slash = 0x2f;
const dot = 0x2e;

function isDots(text: string, start: number, end: number): boolean {
  const length = end - start;
  return (length === 1 || length === 2) && text.charCodeAt(start) === dot && text.charCodeAt(end - 1) === dot;
}
