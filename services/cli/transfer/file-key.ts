/** Pure: keys of names. Every key has its canonical spelling, so Envoy does not change it. test/vectors/names.json has examples. */
import { canonicalKey } from '../../shared/key.ts';

/** The characters that RFC 3986 allows in a path; other bytes become %XX. https://www.rfc-editor.org/rfc/rfc3986#section-3.3 */
const plain = /[A-Za-z0-9\-._~!$&'()*+,;=:@/]/;
const backslash = 0x5c;
const escapeByte = 0x7f;

/**
 * Percent-encodes the bytes that a key cannot contain (spaces, non-ASCII letters, `%`, `#`, `?` …). Two different names never get the
 * same key. A backslash becomes `%7F5C` and byte 7F becomes `%7F7F`, because Envoy rejects `%5C` as an escaped slash. `name` is
 * relative and joined by `/`; it need not be UTF-8.
 */
export function keyOfFile(prefix: string, name: string | Buffer): string {
  return (prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`) + keyOfName(name);
}

export function keyOfName(name: string | Buffer): string {
  let key = '';
  for (const byte of Buffer.from(name)) {
    const character = String.fromCharCode(byte);
    if (byte < escapeByte && plain.test(character)) key += character;
    else if (byte === backslash || byte === escapeByte) key += `%7F${hex(byte)}`;
    else key += `%${hex(byte)}`;
  }
  return key;
}

/** The canonical spelling of a key that is already encoded; undefined if Envoy rejects it. */
export function keyOfEncoded(text: string): string | undefined {
  return /[^\x21-\x7e]/.test(text) ? undefined : canonicalKey(text);
}

function hex(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, '0');
}
