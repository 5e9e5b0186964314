/**
 * The format of a snapshot, version 2. Numbers are little endian, strings Latin-1.
 *
 *     chunks of rows, 128 KiB each | chunks of names, 64 KiB each | totals as JSON | its length, its crc, magic
 *
 * A chunk is a count, the CRC of all that follows, and that number of entries. A row is 24 bytes: digest, blocks, tick, group. A name is a
 * group, two lengths, namespace and prefix. A damaged chunk loses only its own entries. Version 1 has the names in the JSON.
 */
import { crc32 } from 'node:zlib';
import type { GroupName } from '../index/groups.ts';

export interface SnapshotTotals {
  /** The last step of recency in the snapshot. */
  readonly tick: number;
  readonly takenAtMs: number;
  readonly objects: number;
  readonly blocks: number;
  /** By namespace, so that shares apply right after a start. A snapshot of an earlier release has none. */
  readonly shares?: Readonly<Record<string, number>>;
}

export interface SnapshotRow {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly blocks: number;
  readonly tick: number;
  readonly group: number;
}

export interface FooterV1 extends SnapshotTotals {
  readonly version: 1;
  readonly chunks: number;
  readonly groups: (GroupName | null)[];
}

export interface FooterV2 extends SnapshotTotals {
  readonly version: 2;
  readonly chunks: number;
  readonly nameChunks: number;
}

/** Limits for the chunks of a snapshot, and for its bytes. */
export interface SnapshotPlan {
  readonly maxRowChunks: number;
  readonly maxNameChunks: number;
  readonly maxBytes: number;
}

const rowBytes = 24;
export const rowChunkBytes = 128 * 1024;
/** A chunk is written and read in one turn of the event loop; a name costs more than a row. */
export const nameChunkBytes = 64 * 1024;
const chunkHeadBytes = 8;
const nameHeadBytes = 6;
/** About 5,400 rows, which take 2 ms in one turn of the event loop. */
export const chunkRows = Math.floor((rowChunkBytes - chunkHeadBytes) / rowBytes);
/** A key has at most 1,024 bytes, a namespace 63, and `origin:` with the name of an origin 70. */
const maxNameBytes = nameHeadBytes + 1024 + 70;
/** A namespace, a number and the JSON syntax around them. */
const maxShareBytes = 128;
const maxTotalsBytes = 1024;
/** Factor for entries that are added while the snapshot is written. */
const slack = 1.25;
export const tailBytes = 16;
const magic = 0x6b757261_736e6170n; // "kurasnap"

/** `nameBytes` is the length of all names. */
export function planSnapshot(has: { objects: number; names: number; nameBytes: number; shares: number }): SnapshotPlan {
  const maxRowChunks = Math.ceil((has.objects * slack) / chunkRows) + 1;
  // A chunk ends before the first name that does not fit into it.
  const usableBytes = nameChunkBytes - chunkHeadBytes - maxNameBytes;
  const maxNameChunks = Math.ceil(((has.nameBytes + has.names * nameHeadBytes) * slack) / usableBytes) + 1;
  const footerBytes = maxTotalsBytes + Math.ceil(has.shares * slack) * maxShareBytes + tailBytes;
  return { maxRowChunks, maxNameChunks, maxBytes: maxRowChunks * rowChunkBytes + maxNameChunks * nameChunkBytes + footerBytes };
}

/** Writes a row to a place in a chunk. */
export function encodeRow(chunk: Buffer, place: number, row: SnapshotRow): void {
  const at = chunkHeadBytes + place * rowBytes;
  chunk.writeUInt32LE(row.a, at);
  chunk.writeUInt32LE(row.b, at + 4);
  chunk.writeUInt32LE(row.c, at + 8);
  chunk.writeUInt32LE(row.blocks, at + 12);
  chunk.writeUInt32LE(row.tick, at + 16);
  chunk.writeUInt32LE(row.group, at + 20);
}

export function decodeRow(chunk: Buffer, place: number): SnapshotRow {
  const at = chunkHeadBytes + place * rowBytes;
  return {
    a: chunk.readUInt32LE(at),
    b: chunk.readUInt32LE(at + 4),
    c: chunk.readUInt32LE(at + 8),
    blocks: chunk.readUInt32LE(at + 12),
    tick: chunk.readUInt32LE(at + 16),
    group: chunk.readUInt32LE(at + 20),
  };
}

/**
 * Writes a name at an offset in a chunk; `undefined` is the first offset. Returns the next offset, or undefined if the name does not fit.
 */
export function encodeName(chunk: Buffer, at: number | undefined, group: number, { namespace, prefix }: GroupName): number | undefined {
  const start = at ?? chunkHeadBytes;
  const end = start + nameHeadBytes + namespace.length + prefix.length;
  if (end > chunk.length) return undefined;
  chunk.writeUInt16LE(group, start);
  chunk.writeUInt16LE(namespace.length, start + 2);
  chunk.writeUInt16LE(prefix.length, start + 4);
  chunk.write(namespace + prefix, start + nameHeadBytes, 'latin1');
  return end;
}

/** Calls `onName` for each name of a whole chunk. */
export function decodeNames(chunk: Buffer, onName: (group: number, name: GroupName) => void): void {
  let at = chunkHeadBytes;
  for (let left = countOf(chunk); left > 0; left -= 1) {
    const prefixAt = at + nameHeadBytes + chunk.readUInt16LE(at + 2);
    const end = prefixAt + chunk.readUInt16LE(at + 4);
    const namespace = chunk.toString('latin1', at + nameHeadBytes, prefixAt);
    onName(chunk.readUInt16LE(at), { namespace, prefix: chunk.toString('latin1', prefixAt, end) });
    at = end;
  }
}

/** Writes the count and the CRC of a chunk. */
export function seal(chunk: Buffer, count: number): void {
  chunk.writeUInt32LE(count, 0);
  chunk.writeUInt32LE(crc32(chunk.subarray(chunkHeadBytes)), 4);
}

export function isWhole(chunk: Buffer): boolean {
  return chunk.readUInt32LE(4) === crc32(chunk.subarray(chunkHeadBytes));
}

export function countOf(chunk: Buffer): number {
  return chunk.readUInt32LE(0);
}

export function encodeFooter(footer: FooterV2): Buffer {
  const text = Buffer.from(JSON.stringify(footer));
  const tail = Buffer.alloc(tailBytes);
  tail.writeUInt32LE(text.length, 0);
  tail.writeUInt32LE(crc32(text), 4);
  tail.writeBigUInt64BE(magic, 8);
  return Buffer.concat([text, tail]);
}

/** The length of the JSON before a tail; undefined if it is not a tail. */
export function footerLength(tail: Buffer): number | undefined {
  return tail.readBigUInt64BE(8) === magic ? tail.readUInt32LE(0) : undefined;
}

/** Returns undefined if the footer is damaged or does not match the size of the file. */
export function decodeFooter(text: Buffer, tail: Buffer, fileBytes: number): FooterV1 | FooterV2 | undefined {
  if (crc32(text) !== tail.readUInt32LE(4)) return undefined;
  const footer = JSON.parse(text.toString()) as FooterV1 | FooterV2;
  if (footer.version !== 1 && footer.version !== 2) return undefined;
  const nameChunks = footer.version === 2 ? footer.nameChunks : 0;
  const bytes = footer.chunks * rowChunkBytes + nameChunks * nameChunkBytes + text.length + tailBytes;
  return bytes === fileBytes ? footer : undefined;
}
