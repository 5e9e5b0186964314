/** Pure: makes keys from file names and from text that a user typed. Every key has its canonical spelling, so Envoy does not change it. */
import { canonicalKey } from '../../shared/key.ts';

/** The characters that RFC 3986 allows in a path; other bytes become %XX. https://www.rfc-editor.org/rfc/rfc3986#section-3.3 */
const plain = /[A-Za-z0-9\-._~!$&'()*+,;=:@/]/;
/** A typed key may already be percent-encoded, and may contain a query. */
const plainWhenTyped = /[A-Za-z0-9\-._~!$&'()*+,;=:@/%?]/;
const backslash = 0x5c;
const escapeByte = 0x7f;

/**
 * Percent-encodes the bytes that a key cannot contain (spaces, non-ASCII letters, `%`, `#`, `?` …). Two different names never get the
 * same key. A backslash becomes `%7F5C` and byte 7F becomes `%7F7F`, because Envoy rejects `%5C` as an escaped slash. `path` is
 * relative and joined by `/`.
 */
export function keyOfFile(prefix: string, path: string): string {
  return (prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`) + encode(path, plain);
}

/**
 * Makes a key from text that a user typed: `%20` is kept, a space becomes `%20`, and a `%` that begins no escape becomes `%25`. A key
 * without a canonical spelling, such as one with `%2F`, stays unchanged: Envoy rejects it.
 */
export function keyOfText(text: string): string {
  const key = encode(text.replace(/%(?![0-9A-Fa-f]{2})/g, '%25'), plainWhenTyped);
  return canonicalKey(key) ?? key;
}

function encode(text: string, kept: RegExp): string {
  let key = '';
  for (const byte of Buffer.from(text)) {
    const character = String.fromCharCode(byte);
    if (byte < escapeByte && kept.test(character)) key += character;
    else if (byte === backslash || byte === escapeByte) key += `%7F${hex(byte)}`;
    else key += `%${hex(byte)}`;
  }
  return key;
}

function hex(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, '0');
}
