/**
 * The trailer of an object file, version 2 or 3. The body starts at offset 0, so a reader needs no offset. The fixed part is at the end of
 * the file, so the size of the file alone locates the trailer. A file that was cut or never finished has no trailer.
 *
 *     body | block sums, 4 bytes each | strings | fixed part, 56 bytes
 *
 * The strings are key, namespace, content type, content encoding, ServiceAccount and Pod. Version 1 has only the first three. Version 3 adds
 * the origin and its version of the object, and only objects from an origin have it. Numbers are little endian. A block sum is the CRC-32 of
 * 256 KiB of the body; the last block may be shorter.
 */
import { crc32 } from 'node:zlib';
import type { Key } from '../../shared/key.ts';

const [formatVersion, filledVersion] = [2, 3];
/** The CRC of a block takes 51 µs, short enough for a check before the first send. 64 GiB have 1 MiB of block sums. */
export const blockBytes = 256 * 1024;
const fixedBytes = 56;
/** A namespace is a DNS label, ServiceAccount and Pod are DNS subdomains. A longer content type or encoding is not stored. */
export const maxNamespaceBytes = 63;
export const maxContentTypeBytes = 255;
export const maxContentEncodingBytes = 64;
export const maxWriterBytes = 253;
const maxOriginBytes = 63;
/** A longer version is not stored. Then the object counts as changed when it is compared with its origin. */
export const maxOriginVersionBytes = 255;
/** Longest strings and fixed part. One read of this length from the end of the file has everything except the block sums. */
export const maxTailBytes =
  1024 +
  maxNamespaceBytes +
  maxContentTypeBytes +
  maxContentEncodingBytes +
  2 * maxWriterBytes +
  maxOriginBytes +
  maxOriginVersionBytes +
  fixedBytes;
const magic = 0x6b757261_6f626a31n; // "kuraobj1"

export interface ObjectMeta {
  readonly key: Key;
  /** Namespace of the writer; empty if unknown. */
  readonly namespace: string;
  readonly contentType: string;
  /** Empty if the upload had none. */
  readonly contentEncoding: string;
  /** ServiceAccount of the writer; empty if unknown. */
  readonly serviceAccount: string;
  /** Pod of the writer; empty if unknown. */
  readonly pod: string;
  /** Name of the origin that the object was fetched from; empty for an object that a client has stored. */
  readonly origin: string;
  /** The ETag or the date of the object at the origin; empty if unknown. */
  readonly originVersion: string;
  readonly length: number;
  /** Microseconds since 1970 by the clock of the shard. Part of the ETag. */
  readonly committedAt: bigint;
}

export interface Trailer extends ObjectMeta {
  /** CRC-32 over all block sums. */
  readonly sumOfSums: number;
  /** Length of the block sums before the strings. */
  readonly sumsBytes: number;
  readonly trailerBytes: number;
  /** Length of the whole file. */
  readonly fileBytes: number;
}

/** The namespace whose share the object counts in. An object from an origin counts in the share of the origin. */
export function ownerOf({ namespace, origin }: Pick<ObjectMeta, 'namespace' | 'origin'>): string {
  // No namespace contains a colon.
  return origin === '' ? namespace : `origin:${origin}`;
}

export function blockCount(length: number): number {
  return Math.ceil(length / blockBytes);
}

/** `sums` has exactly one CRC for each block, in order. */
export function encodeTrailer(meta: ObjectMeta, sums: Uint32Array): Buffer {
  const texts = [meta.key, meta.namespace, meta.contentType, meta.contentEncoding, meta.serviceAccount, meta.pod];
  texts.push(meta.origin, meta.originVersion);
  const strings = Buffer.from(texts.join(''), 'latin1');
  const sumsBytes = sums.length * 4;
  const buffer = Buffer.allocUnsafe(sumsBytes + strings.length + fixedBytes);
  Buffer.from(sums.buffer, sums.byteOffset, sumsBytes).copy(buffer);
  strings.copy(buffer, sumsBytes);
  const at = sumsBytes + strings.length;
  buffer.writeUInt32LE(buffer.length, at);
  buffer.writeUInt32LE(crc32(buffer.subarray(0, sumsBytes)), at + 4);
  buffer.writeBigUInt64LE(BigInt(meta.length), at + 8);
  buffer.writeBigUInt64LE(meta.committedAt, at + 16);
  buffer.writeUInt16LE(meta.key.length, at + 24);
  buffer.writeUInt16LE(meta.namespace.length, at + 26);
  buffer.writeUInt16LE(meta.contentType.length, at + 28);
  buffer.writeUInt16LE(meta.origin === '' ? formatVersion : filledVersion, at + 30);
  buffer.writeUInt16LE(meta.contentEncoding.length, at + 32);
  buffer.writeUInt16LE(meta.serviceAccount.length, at + 34);
  buffer.writeUInt16LE(meta.pod.length, at + 36);
  buffer.writeUInt16LE(meta.origin.length, at + 38);
  buffer.writeUInt16LE(meta.originVersion.length, at + 40);
  buffer.fill(0, at + 42, at + 44);
  // Covers the strings and the numbers, including the CRC of the block sums.
  buffer.writeUInt32LE(crc32(buffer.subarray(sumsBytes, at + 44)), at + 44);
  buffer.writeBigUInt64BE(magic, at + 48);
  return buffer;
}

/**
 * Decodes the strings and the fixed part. `tail` is the end of a file of `fileBytes`: at least `maxTailBytes`, or the whole file.
 * Returns undefined if it is damaged or does not match the size of the file.
 */
export function decodeTrailer(tail: Buffer, fileBytes: number): Trailer | undefined {
  const at = tail.length - fixedBytes;
  if (at < 0 || tail.readBigUInt64BE(at + 48) !== magic) return undefined;
  const version = tail.readUInt16LE(at + 30);
  if (version !== 1 && version !== formatVersion && version !== filledVersion) return undefined;
  // An earlier version has zeros in place of the lengths of the strings that a later one has added.
  const lengths = [24, 26, 28, 32, 34, 36, 38, 40].map((offset) => tail.readUInt16LE(at + offset));
  const stringsAt = at - lengths.reduce((sum, length) => sum + length, 0);
  if (stringsAt < 0 || crc32(tail.subarray(stringsAt, at + 44)) !== tail.readUInt32LE(at + 44)) return undefined;
  const length = Number(tail.readBigUInt64LE(at + 8));
  const trailerBytes = tail.readUInt32LE(at);
  const sumsBytes = blockCount(length) * 4;
  if (length + trailerBytes !== fileBytes || trailerBytes !== sumsBytes + tail.length - stringsAt) return undefined;
  const texts = split(tail.toString('latin1', stringsAt, at), lengths);
  const [key, namespace, contentType, contentEncoding, serviceAccount, pod, origin, originVersion] = texts;
  return {
    key: key as Key,
    namespace,
    contentType,
    contentEncoding,
    serviceAccount,
    pod,
    origin,
    originVersion,
    length,
    committedAt: tail.readBigUInt64LE(at + 16),
    sumOfSums: tail.readUInt32LE(at + 4),
    sumsBytes,
    trailerBytes,
    fileBytes,
  };
}

/** The length of the body that the trailer of a whole file states, before any check. Returns 0 if it is longer than the file. */
export function statedLength(file: Buffer): number {
  const at = file.length - fixedBytes;
  const length = at < 0 ? 0 : Number(file.readBigUInt64LE(at + 8));
  return length <= at ? length : 0;
}

/** Returns the block sums, or undefined if their CRC is wrong. */
export function decodeSums(bytes: Buffer, trailer: Trailer): Uint32Array | undefined {
  if (crc32(bytes) !== trailer.sumOfSums) return undefined;
  const sums = new Uint32Array(bytes.length / 4);
  for (let at = 0; at < sums.length; at += 1) sums[at] = bytes.readUInt32LE(at * 4);
  return sums;
}

/** A strong ETag (RFC 9110, 8.8.1): it contains the length, the CRC of the block sums and the commit time. */
export function entityTag({ length, sumOfSums, committedAt }: Pick<Trailer, 'length' | 'sumOfSums' | 'committedAt'>): string {
  return `"${length}-${sumOfSums.toString(16)}-${committedAt.toString(16)}"`;
}

type Texts = [string, string, string, string, string, string, string, string];

function split(text: string, lengths: readonly number[]): Texts {
  let from = 0;
  return lengths.map((length) => {
    from += length;
    return text.slice(from - length, from);
  }) as Texts;
}
