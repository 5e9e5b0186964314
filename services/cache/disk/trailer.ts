/**
 * What follows the body in every object file, form version 1. The body starts at offset 0, so a reader needs no offset; the fixed part ends the file, so the trailer is
 * found from the file's size alone, and a file that was cut or never finished has none.
 *
 *     body | block sums, 4 bytes each | key | namespace | content type | fixed part, 56 bytes
 *
 * Numbers are little endian. A block sum is the CRC-32 of 256 KiB of the body (the last block may be shorter).
 */
import { crc32 } from 'node:zlib';
import type { Key } from '../../shared/key.ts';

export const formVersion = 1;
/** 51 µs of CRC a block: small enough to check before each send, large enough that 64 GiB have 1 MiB of sums. */
export const blockBytes = 256 * 1024;
const fixedBytes = 56;
/** A namespace is a DNS label (63 bytes); a content type beyond 255 bytes is not kept. */
export const maxNamespaceBytes = 63;
export const maxContentTypeBytes = 255;
/** Strings and fixed part together; what one read from the end must cover to know all but the sums. */
export const maxTailBytes = 1024 + maxNamespaceBytes + maxContentTypeBytes + fixedBytes;
const magic = 0x6b757261_6f626a31n; // "kuraobj1"

export interface ObjectMeta {
  readonly key: Key;
  /** The namespace whose workload wrote it; empty when none was named. */
  readonly namespace: string;
  readonly contentType: string;
  readonly length: number;
  /** Microseconds since 1970 by the writer's clock; a part of the ETag. */
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
  const strings = Buffer.from(meta.key + meta.namespace + meta.contentType, 'latin1');
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
  buffer.fill(0, at + 32, at + 44);
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
  if (at < 0 || tail.readBigUInt64BE(at + 48) !== magic || tail.readUInt16LE(at + 30) !== formVersion) return undefined;
  const keyBytes = tail.readUInt16LE(at + 24);
  const namespaceBytes = tail.readUInt16LE(at + 26);
  const contentTypeBytes = tail.readUInt16LE(at + 28);
  const stringsAt = at - keyBytes - namespaceBytes - contentTypeBytes;
  if (stringsAt < 0 || crc32(tail.subarray(stringsAt, at + 44)) !== tail.readUInt32LE(at + 44)) return undefined;
  const length = Number(tail.readBigUInt64LE(at + 8));
  const trailerBytes = tail.readUInt32LE(at);
  const sumsBytes = blockCount(length) * 4;
  if (length + trailerBytes !== fileBytes || trailerBytes !== sumsBytes + tail.length - stringsAt) return undefined;
  const strings = tail.toString('latin1', stringsAt, at);
  return {
    key: strings.slice(0, keyBytes) as Key,
    namespace: strings.slice(keyBytes, keyBytes + namespaceBytes),
    contentType: strings.slice(keyBytes + namespaceBytes),
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
