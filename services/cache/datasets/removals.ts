/**
 * The removals of a shard: which objects no request may get any more. A record is on the disk before its request is answered, so that no
 * crash brings a removed object back. While it is running, every object under the prefix that is not newer counts as missing.
 */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { replaceFile } from '../../shared/write-file.ts';
import type { ObjectMeta } from '../disk/trailer.ts';

/** Each open of a file compares the key with all running removals. */
const maxRunning = 64;
/** Ended removals that a client can still ask for. */
const maxDone = 256;
/**
 * How far the clock of a client may differ. A time that is not older counts as now by the clock of the shard, because the commit times of
 * objects are of that clock.
 */
const clockDifferenceMs = 5_000;
const formatVersion = 1;

export interface Removal {
  readonly id: string;
  readonly prefix: string;
  /** Objects that were committed until then are removed: microseconds since 1970, by the clock of the shard. */
  readonly time: number;
  /** The time in the request, by which a repeated request is recognized. */
  readonly askedMs: number | undefined;
  state: 'running' | 'done';
  /** What this process has removed. */
  removed: number;
  bytes: number;
}

type Version = Pick<ObjectMeta, 'key' | 'committedAt'>;

interface RemovalsOptions {
  readonly directory: string;
  /** The current commit time, in microseconds. Later commits have later times. */
  readonly now: () => bigint;
}

/** The removals cannot be read. The message is one line for the operator. */
class RemovalsError extends Error {
  readonly code = 'REMOVALS';
}

export class Removals {
  /** Called when a removal comes into force, before it is on the disk. */
  readonly onForce: (() => void)[] = [];
  readonly #options: RemovalsOptions;
  #all: Removal[];
  #running: Removal[] = [];
  /** Settles when the write in progress has ended. */
  #writing: Promise<void> = Promise.resolve();
  /** Removals whose first write is in progress. A repeated request waits for it too. */
  readonly #storing = new Map<Removal, Promise<void>>();

  constructor(options: RemovalsOptions, all: Removal[]) {
    this.#options = options;
    this.#all = all;
    this.#select();
  }

  /** Removals that have not ended, the oldest first. */
  get running(): readonly Removal[] {
    return this.#running;
  }

  /** Those that are running, and the last ones that have ended; the oldest first. */
  get all(): readonly Removal[] {
    return this.#all;
  }

  find(id: string): Removal | undefined {
    return this.#all.find((removal) => removal.id === id);
  }

  /** Whether a running removal covers this version of an object. */
  covers(version: Version): boolean {
    return this.#running.some((removal) => isCovered(version, removal));
  }

  /** Counts an object that was removed in each removal that covers it. */
  count(version: Version, bytes: number): void {
    for (const removal of this.#running) {
      if (!isCovered(version, removal)) continue;
      removal.removed += 1;
      removal.bytes += bytes;
    }
  }

  /**
   * Adds a removal, or returns that of an equal request. It is in force from `onForce` on, and durable when the promise
   * resolves. Resolves with undefined if too many are running. Rejects with a disk fault, and is then not in force.
   */
  async add(prefix: string, askedMs: number | undefined): Promise<Removal | undefined> {
    const known = askedMs === undefined ? undefined : this.#all.find((each) => each.prefix === prefix && each.askedMs === askedMs);
    if (known !== undefined) {
      await this.#storing.get(known);
      return known;
    }
    if (this.#running.length >= maxRunning) return undefined;
    const now = Number(this.#options.now());
    const isNow = askedMs === undefined || askedMs * 1000 > now - clockDifferenceMs * 1000;
    const time = isNow ? now : askedMs * 1000;
    const removal: Removal = { id: randomBytes(9).toString('base64url'), prefix, time, askedMs, state: 'running', removed: 0, bytes: 0 };
    this.#all.push(removal);
    this.#select();
    for (const apply of this.onForce) apply();
    const stored = this.#write();
    this.#storing.set(removal, stored);
    try {
      await stored;
    } catch (error) {
      this.#all = this.#all.filter((each) => each !== removal);
      this.#select();
      throw error;
    } finally {
      this.#storing.delete(removal);
    }
    return removal;
  }

  /** A scan has found no object that the removal covers. Rejects with a disk fault; the removal is then still running. */
  async end(removal: Removal): Promise<void> {
    removal.state = 'done';
    try {
      await this.#write();
    } catch (error) {
      removal.state = 'running';
      throw error;
    }
    const done = this.#all.filter(({ state }) => state === 'done').slice(-maxDone);
    this.#all = this.#all.filter((each) => each.state === 'running' || done.includes(each));
    this.#select();
  }

  #select(): void {
    this.#running = this.#all.filter(({ state }) => state === 'running');
  }

  /** One write after the other. Each has all changes until its start. */
  #write(): Promise<void> {
    const mine = this.#writing.then(() => {
      const removals = this.#all.map(({ id, prefix, time, askedMs, state }) => ({ id, prefix, time, askedMs, state }));
      return replaceFile(removalsFile(this.#options.directory), `${JSON.stringify({ form: formatVersion, removals })}\n`, {
        mode: 0o600,
        sync: true,
      });
    });
    this.#writing = mine.catch(() => {});
    return mine;
  }
}

function isCovered({ key, committedAt }: Version, { prefix, time }: Removal): boolean {
  return key.startsWith(prefix) && committedAt <= time;
}

/** Reads the removals of earlier processes. Throws RemovalsError if the file is damaged. */
export async function readRemovals(directory: string): Promise<Removal[]> {
  const file = removalsFile(directory);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  try {
    const { form, removals } = JSON.parse(text) as { form: number; removals: Removal[] };
    if (form === formatVersion && removals.every(isRemoval)) return removals.map((each) => ({ ...each, removed: 0, bytes: 0 }));
  } catch {}
  throw new RemovalsError(`${file} is not readable, so removed objects could return: restore it, or remove it and repeat the removals`);
}

function isRemoval({ id, prefix, time, state }: Partial<Removal>): boolean {
  return typeof id === 'string' && typeof prefix === 'string' && Number.isSafeInteger(time) && (state === 'running' || state === 'done');
}

function removalsFile(directory: string): string {
  return path.join(directory, 'removals.json');
}
