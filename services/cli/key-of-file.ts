/** Pure: the key of a file, or of what a user typed. Every key has its canonical spelling, so Envoy does not change it. */
import { canonicalKey } from '../shared/key.ts';

/** What RFC 3986 lets stand in a path; the rest is written as %XX. */
const plain = /[A-Za-z0-9\-._~!$&'()*+,;=:@/]/;
/** A typed key may hold what it is encoded with already, and a query. */
const plainWhenTyped = /[A-Za-z0-9\-._~!$&'()*+,;=:@/%?]/;
const backslash = 0x5c;
const escapeByte = 0x7f;

/**
 * Percent-encodes the bytes that a key cannot hold (spaces, non-ASCII letters, `%`, `#`, `?` …): two different names never get one key. A backslash becomes
 * `%7F5C`, and byte 7F `%7F7F`, since Envoy refuses `%5C` as an escaped slash. `path` is relative and joined by `/`.
 */
export function keyOfFile(prefix: string, path: string): string {
  return (prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`) + encode(path, plain);
}

/**
 * A key as a user typed it: `%20` stays, a space becomes `%20`, and a `%` that begins no escape becomes `%25`. A key without a canonical
 * spelling, such as one with `%2F`, stays as it is: Envoy rejects it.
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
