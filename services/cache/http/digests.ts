/** Digests that a client sends with an upload: `Content-MD5`, `Content-Digest` and `Repr-Digest` (RFC 9530). */
import { createHash, type Hash, timingSafeEqual } from 'node:crypto';

export interface ExpectedDigest {
  readonly algorithm: 'md5' | 'sha256';
  readonly value: Buffer;
}

interface DigestFields {
  readonly md5: string | undefined;
  /** The values of `Content-Digest` and `Repr-Digest`. Both cover the same bytes, because a body is stored unchanged. */
  readonly digests: readonly string[];
}

const digestBytes = { md5: 16, sha256: 32 } as const;

/** Returns the digests to compare, or undefined if one is malformed. Algorithms other than SHA-256 are ignored (RFC 9530, section 2). */
export function readDigests({ md5, digests }: DigestFields): ExpectedDigest[] | undefined {
  const texts: { algorithm: ExpectedDigest['algorithm']; text: string }[] = md5 === undefined ? [] : [{ algorithm: 'md5', text: md5 }];
  for (const field of digests) {
    for (const member of field.split(',')) {
      const match = /^\s*sha-256=:([^:]*):\s*(?:;.*)?$/i.exec(member);
      if (match !== null) texts.push({ algorithm: 'sha256', text: match[1] as string });
      else if (/^\s*sha-256\s*=/i.test(member)) return undefined;
    }
  }
  const expected = texts.map(({ algorithm, text }) => ({ algorithm, value: Buffer.from(text.trim(), 'base64') }));
  return expected.every(({ algorithm, value }) => value.length === digestBytes[algorithm]) ? expected : undefined;
}

/** Compares a body with the digests of its client. */
export class DigestCheck {
  readonly #hashes: { readonly hash: Hash; readonly value: Buffer }[];

  constructor(expected: readonly ExpectedDigest[]) {
    this.#hashes = expected.map(({ algorithm, value }) => ({ hash: createHash(algorithm), value }));
  }

  update(chunk: Buffer): void {
    for (const { hash } of this.#hashes) hash.update(chunk);
  }

  /** Call it once, after the last byte. */
  holds(): boolean {
    return this.#hashes.every(({ hash, value }) => timingSafeEqual(hash.digest(), value));
  }
}
