/**
 * Counts the files on the disk after a start, while the shard serves requests. Until it has finished, the shard counts as full (space.ts).
 */
import { lstat, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from '../../shared/log.ts';
import type { Counters } from '../counters.ts';
import type { Digest } from '../digest.ts';
import { within } from '../disk/deadline.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import { fileName, folderCount, objectPath, temporaryFolder } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';
import type { Catalog } from '../index/catalog.ts';
import type { Clock } from '../index/clock.ts';
import { unknownGroup } from '../index/groups.ts';
import { flagUnconfirmed, noRow } from '../index/object-index.ts';
import { blocksOf } from '../index/space.ts';
import type { KeyedMutex } from '../store/keyed-mutex.ts';
import { listTemporary } from './limits.ts';
import { scanObjects } from './scan.ts';
import { readSnapshot } from './snapshot.ts';

interface RecoveryOptions {
  readonly directory: string;
  /** This start has created the directory. */
  readonly isNew: boolean;
  readonly catalog: Catalog;
  readonly mutex: KeyedMutex;
  /** Part of the names of the temporary files of this process, which stay. */
  readonly runId: string;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Logger;
  readonly health: FaultSink;
  /** Removes the file of a digest that has no row. Resolves with false if the disk failed. Does not reject. */
  readonly removeFile: (digest: Digest) => Promise<boolean>;
  /** Called when all files are counted, before the limits apply. */
  readonly onCounted: () => void;
  readonly signal: AbortSignal;
}

/** Rows that are checked in one turn of the event loop. */
const sweepRows = 20_000;
const rescanMs = 5_000;
/** Limit for one file to be removed. */
const removeMs = 5_000;

export class Recovery {
  /** Share of the folders that were counted. */
  ratio = 0;
  readonly #options: RecoveryOptions;

  constructor(options: RecoveryOptions) {
    this.#options = options;
  }

  /** Does not reject. */
  async run(): Promise<void> {
    const { catalog, log, signal, isNew, onCounted } = this.#options;
    const startedMs = performance.now();
    if (!isNew) {
      await this.#removeTemporary();
      const takenAtMs = await this.#loadSnapshot();
      await this.#scanAll(takenAtMs);
      await this.#sweepUnconfirmed();
    }
    if (signal.aborted) return;
    this.ratio = 1;
    onCounted();
    catalog.space.markCounted();
    catalog.evictor.run();
    log.info(
      { objects: catalog.index.count, bytes: catalog.space.usedBytes, seconds: (performance.now() - startedMs) / 1000 },
      'all objects are counted',
    );
  }

  async #removeTemporary(): Promise<void> {
    const folder = temporaryFolder(this.#options.directory);
    for (const name of listTemporary(folder)) {
      if (name.startsWith(this.#options.runId)) continue;
      await rm(path.join(folder, name), { force: true }).catch((error: unknown) => this.#options.health.note(error, 'write'));
    }
  }

  /** Adds the rows of the snapshot, which the scan must confirm. Resolves with the time of the snapshot, or 0 without one. */
  async #loadSnapshot(): Promise<number> {
    const { directory, catalog, mutex, clock, signal, log } = this.#options;
    const totals = await readSnapshot(
      directory,
      ({ tick, shares = {} }) => {
        clock.continueAfter(tick);
        for (const [namespace, share] of Object.entries(shares)) catalog.shares.learn(namespace, share);
      },
      ({ a, b, c, blocks, tick }, name) => {
        if (catalog.isFull || catalog.index.find(a, b, c) !== noRow || mutex.isBusy(fileName({ a, b, c }))) return;
        const group = name === undefined ? unknownGroup : catalog.groups.number(name);
        catalog.index.insert({ a, b, c, blocks, tick, group, flags: flagUnconfirmed }, 'oldest');
      },
      signal,
    );
    if (totals === undefined) log.info('no valid snapshot; all objects count as equally old');
    return totals?.takenAtMs ?? 0;
  }

  /**
   * Scans all folders, and repeats those with a file that could not be read or removed. Without a row, an object would be a miss, and a
   * removal would not find it: it would return after the next start.
   */
  async #scanAll(takenAtMs: number): Promise<void> {
    const { log, signal } = this.#options;
    let folders = await this.#scan(takenAtMs);
    while (folders.length > 0 && !signal.aborted) {
      log.warn({ folders: folders.length }, 'files could not be read or removed; scanning their folders again');
      await delay(rescanMs, undefined, { signal, ref: false }).catch(() => {});
      folders = await this.#scan(takenAtMs, folders);
    }
  }

  async #scan(takenAtMs: number, folders?: readonly number[]): Promise<number[]> {
    const { directory, catalog, log, signal, counters, health, mutex } = this.#options;
    const options: Parameters<typeof scanObjects>[0] = {
      directory,
      signal,
      isKnown: ({ a, b, c }, name) => {
        const row = catalog.index.find(a, b, c);
        return (row !== noRow && !catalog.index.hasFlag(row, flagUnconfirmed)) || mutex.isBusy(name);
      },
      onObject: (digest, sizeBytes, modifiedAtMs) => this.#count(digest, sizeBytes, takenAtMs > 0 && modifiedAtMs > takenAtMs),
      onForeign: (file) => {
        counters.foreignFiles += 1;
        if (counters.foreignFiles <= 10) log.warn({ file }, 'a file is not an object of the cache; it stays unchanged');
      },
      onError: (error) => health.note(error, 'read'),
      onFolder: (number) => {
        this.ratio = Math.max(this.ratio, number / folderCount);
      },
    };
    return folders === undefined ? await scanObjects(options) : await scanObjects(options, [...folders]);
  }

  /** Resolves with false if the file has no row and could not be removed. */
  async #count(digest: Digest, sizeBytes: number, isNewerThanSnapshot: boolean): Promise<boolean> {
    const { catalog, clock, counters } = this.#options;
    const { index } = catalog;
    counters.recoveredObjects += 1;
    const row = index.find(digest.a, digest.b, digest.c);
    if (row !== noRow) {
      index.setFlag(row, flagUnconfirmed, false);
      index.resize(row, blocksOf(sizeBytes));
    } else if (catalog.isFull) {
      // The directory has more files than the limit allows. A file without a row could never be evicted.
      return await within(removeMs, this.#options.removeFile(digest)).catch(() => false);
    } else {
      const place = isNewerThanSnapshot ? 'newest' : 'oldest';
      const tick = isNewerThanSnapshot ? clock.tick() : 1;
      index.insert({ ...digest, blocks: blocksOf(sizeBytes), tick, group: unknownGroup }, place);
    }
    return true;
  }

  /** Checks rows of the snapshot that the scan has not confirmed. */
  async #sweepUnconfirmed(): Promise<void> {
    const { catalog, signal } = this.#options;
    const { index } = catalog;
    for (let row = 1; row < index.rowLimit; row += 1) {
      if (row % sweepRows === 0) await nextTurn();
      if (signal.aborted) return;
      if (index.hasFlag(row, flagUnconfirmed) && index.isUsed(row)) await this.#sweepRow(index.digest(row));
    }
  }

  async #sweepRow(digest: Digest): Promise<void> {
    const { directory, catalog, health } = this.#options;
    const stat = await lstat(objectPath(directory, digest)).catch((error: unknown) => {
      if (faultKind(error) !== 'absent') health.note(error, 'read');
      return undefined;
    });
    const row = catalog.find(digest);
    if (row === noRow || !catalog.index.hasFlag(row, flagUnconfirmed)) return;
    if (stat === undefined) catalog.index.remove(row);
    else await this.#count(digest, stat.size, false);
  }
}
