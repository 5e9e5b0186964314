/**
 * What the index knew, on disk: recency, and the groups that file names do not tell. Checked and disposable: without it all objects are still found, as equally old.
 *
 *     chunks of 128 KiB: count, crc, rows of 24 bytes (digest, blocks, tick, group) | groups and totals as JSON | its length, its crc, magic
 *
 * A group's rows lie from the oldest to the newest, and are read from the end of the file backwards: so each goes behind all that are known already, those of requests
 * served meanwhile included, and of a row that was touched while the snapshot was written the later entry counts.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { GroupName, Groups } from '../index/groups.ts';
import { noRow, type ObjectIndex } from '../index/object-index.ts';

interface SnapshotTotals {
  /** The last step of recency that it may hold. */
  readonly tick: number;
  readonly takenAtMs: number;
  readonly objects: number;
  readonly blocks: number;
  /** By namespace, so that a flood right after a start finds them; a snapshot of an earlier release has none. */
  readonly shares?: Readonly<Record<string, number>>;
}

interface SnapshotRow {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly blocks: number;
  readonly tick: number;
  readonly group: number;
}

interface Footer extends SnapshotTotals {
  readonly version: 1;
  readonly chunks: number;
  readonly groups: (GroupName | null)[];
}

const rowBytes = 24;
const chunkBytes = 128 * 1024;
const chunkHeadBytes = 8;
/** Some 5,400 rows, 2 ms of work: one turn of the event loop. */
const chunkRows = Math.floor((chunkBytes - chunkHeadBytes) / rowBytes);
const tailBytes = 16;
const magic = 0x6b757261_736e6170n; // "kurasnap"
/** 65,536 groups with prefixes of 1 KiB at most. */
const maxFooterBytes = 128 * 1024 * 1024;

export function snapshotFile(directory: string): string {
  return path.join(directory, 'snapshot');
}

/** What a snapshot of so many objects takes, generously. */
export function snapshotBytes(objects: number, groups: number): number {
  return (Math.ceil((objects * 1.25) / chunkRows) + 1) * chunkBytes + groups * 256 + 65_536;
}

/** Writes a snapshot beside the old one and puts it in its place. Requests go on meanwhile. Rejects with the system's error, the old one kept. */
export async function writeSnapshot(options: {
  directory: string;
  index: ObjectIndex;
  groups: Groups;
  totals: SnapshotTotals;
  signal?: AbortSignal;
}): Promise<void> {
  const { directory, index, groups, totals, signal } = options;
  const file = `${snapshotFile(directory)}.new`;
  const handle = await open(file, 'w', 0o600);
  try {
    const chunks = await writeRows({ handle, index, groupCount: groups.size, signal });
    const names = Array.from({ length: groups.size }, (_, group) => groups.name(group) ?? null);
    const footer: Footer = { version: 1, ...totals, chunks, groups: names };
    const text = Buffer.from(JSON.stringify(footer));
    const tail = Buffer.alloc(tailBytes);
    tail.writeUInt32LE(text.length, 0);
    tail.writeUInt32LE(crc32(text), 4);
    tail.writeBigUInt64BE(magic, 8);
    await handle.writeFile(Buffer.concat([text, tail]));
  } catch (error) {
    await handle.close();
    await rm(file, { force: true });
    throw error;
  }
  await handle.close();
  await rename(file, snapshotFile(directory));
}

async function writeRows(options: {
  handle: FileHandle;
  index: ObjectIndex;
  groupCount: number;
  signal: AbortSignal | undefined;
}): Promise<number> {
  const { handle, index, groupCount, signal } = options;
  const chunk = Buffer.alloc(chunkBytes);
  let rows = 0;
  let chunks = 0;
  const flush = async () => {
    chunk.writeUInt32LE(rows, 0);
    chunk.writeUInt32LE(crc32(chunk.subarray(chunkHeadBytes)), 4);
    await handle.writeFile(chunk);
    await nextTurn();
    signal?.throwIfAborted();
    rows = 0;
    chunks += 1;
  };
  for (let group = 0; group < groupCount; group += 1) {
    index.walk(group);
    // A group that is touched faster than it is walked must not keep the walk for ever.
    let left = index.groupCount(group) * 2;
    for (let row = index.step(); row !== noRow && left > 0; row = index.step(), left -= 1) {
      encodeRow(chunk, chunkHeadBytes + rows * rowBytes, { ...index.digest(row), blocks: index.blocks(row), tick: index.tick(row), group });
      rows += 1;
      if (rows === chunkRows) await flush();
    }
  }
  if (rows > 0) await flush();
  return chunks;
}

/** Reads a snapshot; undefined when there is none that is whole. `onRow` gets the rows newest first, with the group's name. */
export async function readSnapshot(
  directory: string,
  onTotals: (totals: SnapshotTotals) => void,
  onRow: (row: SnapshotRow, group: GroupName | undefined) => void,
  signal: AbortSignal,
): Promise<SnapshotTotals | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(snapshotFile(directory), 'r');
  } catch {
    return undefined;
  }
  try {
    const footer = await readFooter(handle);
    if (footer === undefined) return undefined;
    onTotals(footer);
    const chunk = Buffer.alloc(chunkBytes);
    for (let number = footer.chunks - 1; number >= 0 && !signal.aborted; number -= 1) {
      const { bytesRead } = await handle.read(chunk, 0, chunkBytes, number * chunkBytes);
      // A damaged chunk costs the recency of its own rows alone.
      if (bytesRead !== chunkBytes || chunk.readUInt32LE(4) !== crc32(chunk.subarray(chunkHeadBytes))) continue;
      for (let row = chunk.readUInt32LE(0) - 1; row >= 0; row -= 1) {
        const decoded = decodeRow(chunk, chunkHeadBytes + row * rowBytes);
        onRow(decoded, footer.groups[decoded.group] ?? undefined);
      }
      await nextTurn();
    }
    return footer;
  } catch {
    return undefined;
  } finally {
    await handle.close();
  }
}

async function readFooter(handle: FileHandle): Promise<Footer | undefined> {
  const { size } = await handle.stat();
  if (size < tailBytes) return undefined;
  const tail = Buffer.alloc(tailBytes);
  await handle.read(tail, 0, tailBytes, size - tailBytes);
  const length = tail.readUInt32LE(0);
  if (tail.readBigUInt64BE(8) !== magic || length > Math.min(size - tailBytes, maxFooterBytes)) return undefined;
  const text = Buffer.alloc(length);
  await handle.read(text, 0, length, size - tailBytes - length);
  if (crc32(text) !== tail.readUInt32LE(4)) return undefined;
  const footer = JSON.parse(text.toString()) as Footer;
  return footer.version === 1 && footer.chunks * chunkBytes + length + tailBytes === size ? footer : undefined;
}

function encodeRow(buffer: Buffer, at: number, row: SnapshotRow): void {
  buffer.writeUInt32LE(row.a, at);
  buffer.writeUInt32LE(row.b, at + 4);
  buffer.writeUInt32LE(row.c, at + 8);
  buffer.writeUInt32LE(row.blocks, at + 12);
  buffer.writeUInt32LE(row.tick, at + 16);
  buffer.writeUInt32LE(row.group, at + 20);
}

function decodeRow(buffer: Buffer, at: number): SnapshotRow {
  return {
    a: buffer.readUInt32LE(at),
    b: buffer.readUInt32LE(at + 4),
    c: buffer.readUInt32LE(at + 8),
    blocks: buffer.readUInt32LE(at + 12),
    tick: buffer.readUInt32LE(at + 16),
    group: buffer.readUInt32LE(at + 20),
  };
}
