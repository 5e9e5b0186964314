/** The capacity of a shard without `--shard-bytes`. */
import { readdir, stat, statfs } from 'node:fs/promises';
import path from 'node:path';

const mebibyte = 2 ** 20;
/** An object of 1 GiB fits: a shard accepts objects up to a quarter of its capacity. */
const maxDefaultBytes = 4096 * mebibyte;
/** The smallest capacity that a shard accepts. */
const minBytes = 16 * mebibyte;
/** The rest of the free space stays free for other programs. */
const usableShare = 0.9;

/** Returns 4 GiB, or less when the file system of `stateDirectory` lacks room for so many shards. The objects of an earlier run count as room. */
export async function defaultShardBytes({ stateDirectory, shards }: { stateDirectory: string; shards: number }): Promise<number> {
  const { bavail, bsize } = await statfs(stateDirectory);
  const freeBytes = bavail * bsize;
  const wantedBytes = shards * maxDefaultBytes;
  if (usableShare * freeBytes >= wantedBytes) return maxDefaultBytes;
  const storedBytes = await bytesUnder(path.join(stateDirectory, 'shards'));
  return shardBytesFor(freeBytes + storedBytes, shards);
}

/** Whole MiB. */
export function shardBytesFor(roomBytes: number, shards: number): number {
  const bytes = Math.floor((usableShare * roomBytes) / shards / mebibyte) * mebibyte;
  return Math.min(maxDefaultBytes, Math.max(minBytes, bytes));
}

/** 0 for a missing folder. */
async function bytesUnder(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  let bytes = 0;
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    // A file that disappears meanwhile takes no room.
    bytes += (await stat(path.join(entry.parentPath, entry.name)).catch(() => undefined))?.blocks ?? 0;
  }
  return bytes * 512;
}
