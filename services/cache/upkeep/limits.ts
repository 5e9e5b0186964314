/** The limits of a shard, with defaults from its file system, and the room of folders. */
import { readdirSync, readFileSync, statfsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { folderCount, folderName, objectsFolder } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';
import { blocksOf, fileBlockBytes, type SpaceLimits } from '../index/space.ts';
import { snapshotFile } from './snapshot.ts';

/** Part of the free space that the defaults use. A full file system is slow and harms other programs. */
const usableShare = 0.9;
/** Rows of the index are numbered in 32 bits; this many objects of 110 KB are 14 TB. */
const maxIndexRows = 2 ** 27;

interface LimitOptions {
  readonly directory: string;
  readonly maxBytes: number | undefined;
  readonly maxObjects: number | undefined;
  /** The objects of the shard. Until they are counted it is undefined: the whole file system is the limit, and space.ts is stricter. */
  readonly own: { readonly bytes: number; readonly files: number } | undefined;
  /** Shards that share the file system. */
  readonly shards: number;
}

/** A limit that is not given is 0.9 × (free + own) / shards on that file system. */
export function resolveLimits({ directory, maxBytes, maxObjects, own, shards }: LimitOptions): SpaceLimits {
  const system = statfsSync(directory);
  const usableBytes = own === undefined ? system.blocks * system.bsize : system.bavail * system.bsize + own.bytes;
  const bytes = maxBytes ?? Math.floor((usableShare * usableBytes) / shards);
  const usableInodes = own === undefined ? system.files : system.ffree + own.files;
  // A file system without a fixed number of inodes reports 0. Then only the bytes limit the files.
  const inodes = system.files === 0 ? maxIndexRows : Math.floor((usableShare * usableInodes) / shards);
  const files = maxObjects ?? Math.min(inodes, Math.ceil(bytes / fileBlockBytes), maxIndexRows);
  return { maxBytes: bytes, maxFiles: Math.max(64, files) };
}

/** Bytes of the folders and the snapshot, with a spare block each for the next files. Rejects with a disk fault. */
export async function folderBytes(directory: string): Promise<number> {
  const files = [
    ...Array.from({ length: folderCount }, (_, number) => path.join(objectsFolder(directory), folderName(number))),
    snapshotFile(directory),
  ];
  let bytes = 16 * fileBlockBytes;
  // One after the other, so that a hung disk blocks one thread of the pool, not all of them.
  for (const file of files) bytes += (await wholeBlocks(file)) + fileBlockBytes;
  return bytes;
}

/** 0 for a missing file. */
async function wholeBlocks(file: string): Promise<number> {
  try {
    return blocksOf((await stat(file)).size) * fileBlockBytes;
  } catch (error) {
    if (faultKind(error) === 'absent') return 0;
    throw error;
  }
}

/** The names of the temporary files of uploads. */
export function listTemporary(folder: string): string[] {
  return readdirSync(folder).filter((name) => /^[0-9a-f]{8}-\d+\.part$/.test(name));
}

/** The memory limit of the container or the available memory of the machine, whichever is smaller, in bytes. */
export function availableMemory(): number {
  const meminfo = readText('/proc/meminfo');
  const available = Number(/^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1] ?? 1024 * 1024) * 1024;
  // cgroup v2, then v1; "max" or a number near 2^63 means none.
  const limits = ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes'].map((file) =>
    Number(readText(file).trim() || Number.NaN),
  );
  return Math.min(available, ...limits.filter((limit) => limit > 0));
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
