/**
 * The snapshot of the index on disk: recency and groups, which file names do not contain. It has checksums and can be deleted: without it,
 * recovery finds all objects, as equally old.
 *
 * The rows of a group are written from the oldest to the newest, and read from the end of the file backwards. So each row is inserted as
 * older than all known rows, including those of requests that are served meanwhile. If a row was touched while the snapshot was written,
 * its later entry counts.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type GroupName, type Groups, overflowGroup, unknownGroup } from '../index/groups.ts';
import type { ObjectIndex } from '../index/object-index.ts';
import {
  chunkRows,
  countOf,
  decodeFooter,
  decodeNames,
  decodeRow,
  encodeFooter,
  encodeName,
  encodeRow,
  type FooterV1,
  type FooterV2,
  footerLength,
  isWhole,
  nameChunkBytes,
  rowChunkBytes,
  type SnapshotPlan,
  type SnapshotRow,
  type SnapshotTotals,
  seal,
  tailBytes,
} from './snapshot-format.ts';

/** For version 1: 65,536 groups with prefixes of at most 1 KiB. */
const maxFooterBytes = 128 * 1024 * 1024;

export function snapshotFile(directory: string): string {
  return path.join(directory, 'snapshot');
}

interface WriteOptions {
  readonly directory: string;
  readonly index: ObjectIndex;
  readonly groups: Groups;
  readonly totals: SnapshotTotals;
  /** Rows and names beyond these chunks are left out. */
  readonly plan: SnapshotPlan;
}

/** Writes a snapshot to a new file and then replaces the previous one. After a system error it rejects, and the previous snapshot stays. */
export async function writeSnapshot({ directory, index, groups, totals, plan }: WriteOptions): Promise<void> {
  const file = `${snapshotFile(directory)}.new`;
  const handle = await open(file, 'w', 0o600);
  try {
    const groupCount = groups.size;
    const chunks = await writeRows({ handle, index, groupCount, maxChunks: plan.maxRowChunks });
    const nameChunks = await writeNames({ handle, groups, groupCount, maxChunks: plan.maxNameChunks });
    await handle.writeFile(encodeFooter({ version: 2, ...totals, chunks, nameChunks }));
  } catch (error) {
    await handle.close();
    await rm(file, { force: true });
    throw error;
  }
  await handle.close();
  await rename(file, snapshotFile(directory));
}

/** Writes chunks of one size, one in a turn of the event loop. */
class ChunkWriter {
  readonly chunk: Buffer;
  readonly #handle: FileHandle;
  readonly #maxChunks: number;
  chunks = 0;

  constructor(options: { handle: FileHandle; chunkBytes: number; maxChunks: number }) {
    this.chunk = Buffer.alloc(options.chunkBytes);
    this.#handle = options.handle;
    this.#maxChunks = options.maxChunks;
  }

  /** Resolves with false when the limit of chunks is reached. */
  async flush(count: number): Promise<boolean> {
    seal(this.chunk, count);
    await this.#handle.writeFile(this.chunk);
    await nextTurn();
    this.chunks += 1;
    return this.chunks < this.#maxChunks;
  }
}

interface PartOptions {
  readonly handle: FileHandle;
  readonly groupCount: number;
  readonly maxChunks: number;
}

async function writeRows({ handle, index, groupCount, maxChunks }: PartOptions & { index: ObjectIndex }): Promise<number> {
  const writer = new ChunkWriter({ handle, chunkBytes: rowChunkBytes, maxChunks });
  let rows = 0;
  for (let group = 0; group < groupCount; group += 1) {
    for (const row of index.walk(group)) {
      encodeRow(writer.chunk, rows, { ...index.digest(row), blocks: index.blocks(row), tick: index.tick(row), group });
      rows += 1;
      if (rows < chunkRows) continue;
      rows = 0;
      if (!(await writer.flush(chunkRows))) return writer.chunks;
    }
  }
  if (rows > 0) await writer.flush(rows);
  return writer.chunks;
}

async function writeNames({ handle, groups, groupCount, maxChunks }: PartOptions & { groups: Groups }): Promise<number> {
  const writer = new ChunkWriter({ handle, chunkBytes: nameChunkBytes, maxChunks });
  let names = 0;
  let end: number | undefined;
  for (let group = 0; group < groupCount; group += 1) {
    const name = groups.name(group);
    if (name === undefined) continue;
    let next = encodeName(writer.chunk, end, group, name);
    if (next === undefined) {
      if (!(await writer.flush(names))) return writer.chunks;
      names = 0;
      next = encodeName(writer.chunk, undefined, group, name);
    }
    end = next;
    names += 1;
  }
  if (names > 0) await writer.flush(names);
  return writer.chunks;
}

/** Resolves with undefined if no valid snapshot exists. `onRow` gets the rows, the newest first, with the name of the group. */
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
    const names = footer.version === 1 ? namesOf(footer) : await readNames(handle, footer, signal);
    const chunk = Buffer.alloc(rowChunkBytes);
    for (let number = footer.chunks - 1; number >= 0 && !signal.aborted; number -= 1) {
      if (!(await readChunk(handle, chunk, number * rowChunkBytes))) continue;
      for (let place = countOf(chunk) - 1; place >= 0; place -= 1) {
        const row = decodeRow(chunk, place);
        onRow(row, names[row.group]);
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

/** Resolves with whether the chunk exists and is undamaged. */
async function readChunk(handle: FileHandle, chunk: Buffer, at: number): Promise<boolean> {
  const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
  return bytesRead === chunk.length && isWhole(chunk);
}

/** By group. */
async function readNames(handle: FileHandle, footer: FooterV2, signal: AbortSignal): Promise<(GroupName | undefined)[]> {
  const names: (GroupName | undefined)[] = [];
  const chunk = Buffer.alloc(nameChunkBytes);
  for (let number = 0; number < footer.nameChunks && !signal.aborted; number += 1) {
    if (!(await readChunk(handle, chunk, footer.chunks * rowChunkBytes + number * nameChunkBytes))) continue;
    decodeNames(chunk, (group, name) => {
      names[group] = name;
    });
    await nextTurn();
  }
  return names;
}

/** In version 1 the groups that belong to no namespace had names too. */
function namesOf({ groups }: FooterV1): (GroupName | undefined)[] {
  return groups.map((name, group) => (group === unknownGroup || group === overflowGroup ? undefined : (name ?? undefined)));
}

async function readFooter(handle: FileHandle): Promise<FooterV1 | FooterV2 | undefined> {
  const { size } = await handle.stat();
  if (size < tailBytes) return undefined;
  const tail = Buffer.alloc(tailBytes);
  await handle.read(tail, 0, tailBytes, size - tailBytes);
  const length = footerLength(tail);
  if (length === undefined || length > Math.min(size - tailBytes, maxFooterBytes)) return undefined;
  const text = Buffer.alloc(length);
  await handle.read(text, 0, length, size - tailBytes - length);
  return decodeFooter(text, tail, size);
}
