/** Pure: the key of a file. Two different names never get one key, and every key passes Envoy unchanged. */

/** What RFC 3986 lets stand in a path; the rest is written as %XX. */
const plain = /[A-Za-z0-9\-._~!$&'()*+,;=:@/]/;
const backslash = 0x5c;
const escapeByte = 0x7f;

/**
 * Percent-encodes the bytes that a key cannot hold (spaces, non-ASCII letters, `%`, `#`, `?` …). A backslash becomes `%7F5C`, and byte 7F `%7F7F`, since Envoy
 * refuses `%5C` as an escaped slash. `path` is relative and joined by `/`.
 */
export function keyOfFile(prefix: string, path: string): string {
  let key = prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`;
  for (const byte of Buffer.from(path)) {
    const character = String.fromCharCode(byte);
    if (byte < escapeByte && plain.test(character)) key += character;
    else if (byte === backslash || byte === escapeByte) key += `%7F${hex(byte)}`;
    else key += `%${hex(byte)}`;
  }
  return key;
}

function hex(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, '0');
}
