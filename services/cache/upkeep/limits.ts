/** How much of the file system a shard may use when nobody said. */
import { readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import path from 'node:path';
import { folderCount, folderName, objectsFolder } from '../disk/file-name.ts';
import { fileBlockBytes, type SpaceLimits } from '../index/space.ts';
import { snapshotFile } from './snapshot.ts';

/** Part of what is free that is taken: a full file system is slow and breaks its neighbours. */
const usableShare = 0.9;
/** Rows of the index are numbered in 32 bits; this many objects of 110 KB are 14 TB. */
const mostFiles = 2 ** 27;

interface LimitOptions {
  readonly directory: string;
  readonly maxBytes: number | undefined;
  readonly maxObjects: number | undefined;
  /** What the shard stores itself. Undefined before it is counted: then all of the file system bounds it, and the rule for uncounted files holds (space.ts). */
  readonly own: { readonly bytes: number; readonly files: number } | undefined;
  /** Shards that share the file system. */
  readonly shards: number;
}

/** 0.9 × (free + own) / shards on that device, where a bound is not given. */
export function resolveLimits({ directory, maxBytes, maxObjects, own, shards }: LimitOptions): SpaceLimits {
  const system = statfsSync(directory);
  const usableBytes = own === undefined ? system.blocks * system.bsize : system.bavail * system.bsize + own.bytes;
  const bytes = maxBytes ?? Math.floor((usableShare * usableBytes) / shards);
  const usableInodes = own === undefined ? system.files : system.ffree + own.files;
  // A file system without a fixed number of inodes reports none: only the bytes bound it.
  const inodes = system.files === 0 ? mostFiles : Math.floor((usableShare * usableInodes) / shards);
  const files = maxObjects ?? Math.min(inodes, Math.ceil(bytes / fileBlockBytes), mostFiles);
  return { maxBytes: bytes, maxFiles: Math.max(64, files) };
}

/** Bytes of the folders and the snapshot, with a block of slack each for what the next files add. */
export function folderBytes(directory: string): number {
  let bytes = 0;
  for (let number = 0; number < folderCount; number += 1) {
    bytes += folderSize(path.join(objectsFolder(directory), folderName(number)));
  }
  const snapshot = statSync(snapshotFile(directory), { throwIfNoEntry: false });
  return bytes + 16 * fileBlockBytes + Math.ceil((snapshot?.size ?? 0) / fileBlockBytes) * fileBlockBytes;
}

function folderSize(folder: string): number {
  return Math.ceil(statSync(folder).size / fileBlockBytes) * fileBlockBytes + fileBlockBytes;
}

/** What was left of uploads when the last process ended. */
export function listTemporary(folder: string): string[] {
  return readdirSync(folder).filter((name) => /^[0-9a-f]{8}-\d+\.part$/.test(name));
}

/** The smaller of what the container may use and what the machine has left, in bytes. */
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
