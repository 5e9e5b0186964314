/**
 * What follows the body in every object file, form 2. The body starts at offset 0, so a reader needs no offset. The fixed part ends the file, so that the file's size alone
 * locates the trailer, and a file that was cut or never finished has none.
 *
 *     body | block sums, 4 bytes each | strings | fixed part, 56 bytes
 *
 * The strings are key, namespace, content type, content encoding, ServiceAccount and Pod; form 1 has only the first three. Numbers are little endian. A block sum is the
 * CRC-32 of 256 KiB of the body (the last block may be shorter).
 */
import { crc32 } from 'node:zlib';
import type { Key } from '../../shared/key.ts';

const formVersion = 2;
/** 51 µs of CRC a block: small enough to check before each send, large enough that 64 GiB have 1 MiB of sums. */
export const blockBytes = 256 * 1024;
const fixedBytes = 56;
/** A namespace is a DNS label, ServiceAccount and Pod are DNS subdomains. A longer content type or encoding is not kept. */
export const maxNamespaceBytes = 63;
export const maxContentTypeBytes = 255;
export const maxContentEncodingBytes = 64;
export const maxWriterBytes = 253;
/** Strings and fixed part together: one read of so many bytes from the end knows all but the sums. */
export const maxTailBytes = 1024 + maxNamespaceBytes + maxContentTypeBytes + maxContentEncodingBytes + 2 * maxWriterBytes + fixedBytes;
const magic = 0x6b757261_6f626a31n; // "kuraobj1"

export interface ObjectMeta {
  readonly key: Key;
  /** The namespace whose workload wrote it; empty when none was named. */
  readonly namespace: string;
  readonly contentType: string;
  /** As the writer sent it; empty for none. */
  readonly contentEncoding: string;
  /** Of the writer; empty when not known. */
  readonly serviceAccount: string;
  readonly pod: string;
  readonly length: number;
  /** Microseconds since 1970 by the clock of the shard; a part of the ETag. */
  readonly committedAt: bigint;
}

export interface Trailer extends ObjectMeta {
  /** CRC-32 over all block sums. */
  readonly sumOfSums: number;
  /** Bytes of sums before the strings. */
  readonly sumsBytes: number;
  readonly trailerBytes: number;
}

export function blockCount(length: number): number {
  return Math.ceil(length / blockBytes);
}

/** The trailer's bytes. `sums` holds exactly one CRC a block, in order. */
export function encodeTrailer(meta: ObjectMeta, sums: Uint32Array): Buffer {
  const texts = [meta.key, meta.namespace, meta.contentType, meta.contentEncoding, meta.serviceAccount, meta.pod];
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
  buffer.writeUInt16LE(formVersion, at + 30);
  buffer.writeUInt16LE(meta.contentEncoding.length, at + 32);
  buffer.writeUInt16LE(meta.serviceAccount.length, at + 34);
  buffer.writeUInt16LE(meta.pod.length, at + 36);
  buffer.fill(0, at + 38, at + 44);
  // Covers strings and numbers; the sums are covered by their own sum, which lies inside.
  buffer.writeUInt32LE(crc32(buffer.subarray(sumsBytes, at + 44)), at + 44);
  buffer.writeBigUInt64BE(magic, at + 48);
  return buffer;
}

/**
 * Reads strings and fixed part from `tail`, the last bytes of a file of `fileBytes`; it must hold `maxTailBytes` of them or the whole file.
 * Undefined when they are not a whole, undamaged trailer that fits this file.
 */
export function decodeTrailer(tail: Buffer, fileBytes: number): Trailer | undefined {
  const at = tail.length - fixedBytes;
  if (at < 0 || tail.readBigUInt64BE(at + 48) !== magic) return undefined;
  const form = tail.readUInt16LE(at + 30);
  if (form !== 1 && form !== formVersion) return undefined;
  // Form 1 has zeros where form 2 has the lengths of its further strings.
  const lengths = [24, 26, 28, 32, 34, 36].map((offset) => tail.readUInt16LE(at + offset));
  const stringsAt = at - lengths.reduce((sum, length) => sum + length, 0);
  if (stringsAt < 0 || crc32(tail.subarray(stringsAt, at + 44)) !== tail.readUInt32LE(at + 44)) return undefined;
  const length = Number(tail.readBigUInt64LE(at + 8));
  const trailerBytes = tail.readUInt32LE(at);
  const sumsBytes = blockCount(length) * 4;
  if (length + trailerBytes !== fileBytes || trailerBytes !== sumsBytes + tail.length - stringsAt) return undefined;
  const [key, namespace, contentType, contentEncoding, serviceAccount, pod] = split(tail.toString('latin1', stringsAt, at), lengths);
  return {
    key: key as Key,
    namespace,
    contentType,
    contentEncoding,
    serviceAccount,
    pod,
    length,
    committedAt: tail.readBigUInt64LE(at + 16),
    sumOfSums: tail.readUInt32LE(at + 4),
    sumsBytes,
    trailerBytes,
  };
}

/** The sums as numbers, or undefined when they do not agree with their own sum. */
export function decodeSums(bytes: Buffer, trailer: Trailer): Uint32Array | undefined {
  if (crc32(bytes) !== trailer.sumOfSums) return undefined;
  const sums = new Uint32Array(bytes.length / 4);
  for (let at = 0; at < sums.length; at += 1) sums[at] = bytes.readUInt32LE(at * 4);
  return sums;
}

/** Strong (RFC 9110, 8.8.1): other bytes have other sums, and a second write at the same microsecond with the same sums is the same object. */
export function entityTag({ length, sumOfSums, committedAt }: Pick<Trailer, 'length' | 'sumOfSums' | 'committedAt'>): string {
  return `"${length}-${sumOfSums.toString(16)}-${committedAt.toString(16)}"`;
}

function split(text: string, lengths: readonly number[]): [string, string, string, string, string, string] {
  let from = 0;
  return lengths.map((length) => {
    from += length;
    return text.slice(from - length, from);
  }) as [string, string, string, string, string, string];
}
