/**
 * Pure: from the rest of a key, after the prefix of its origin, to the name of an object at the origin. A name that could lead out of the
 * prefix is refused.
 */

export interface OriginPath {
  /** The rest of the key, as the client wrote it. */
  readonly encoded: string;
  /** The same, percent-decoded and without a query. A file name can have any bytes. */
  readonly bytes: Buffer;
}

const slash = 0x2f;

/**
 * Undefined for a malformed escape, and for a `/`, NUL or `.` or `..` segment that appears by decoding. May be empty, for a prefix. With a
 * query, these rules are for the part before the first `?`; without one, `?` is part of the name.
 */
export function originPath(encoded: string, { hasQuery }: { hasQuery: boolean }): OriginPath | undefined {
  const [name] = hasQuery ? encoded.split('?', 1) : [encoded];
  if (name === undefined || /[^\x21-\x7e]/.test(encoded) || /%(?![0-9A-Fa-f]{2})|%2F|%00/i.test(name)) return undefined;
  const bytes = Buffer.from(
    name.replace(/%([0-9A-Fa-f]{2})/g, (_whole, digits: string) => String.fromCharCode(Number.parseInt(digits, 16))),
    'latin1',
  );
  const segments = bytes.toString('latin1').split('/');
  return segments.some((segment) => segment === '.' || segment === '..') ? undefined : { encoded, bytes };
}

/** The text of a name; undefined if its bytes are not UTF-8. */
export function utf8Of({ bytes }: OriginPath): string | undefined {
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : undefined;
}

/** A name in the canonical spelling of keys. */
export function encodeName(name: Buffer): string {
  let encoded = '';
  for (const byte of name) {
    const character = String.fromCharCode(byte);
    encoded +=
      byte === slash || /[A-Za-z0-9\-._~!$&'()*+,;=:@]/.test(character)
        ? character
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}
