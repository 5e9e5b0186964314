/** Background work: the regular snapshot, the scrub of stored objects, and the measurement of the folders. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../shared/log.ts';
import type { Counters } from '../counters.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import type { Catalog } from '../index/catalog.ts';
import type { Clock } from '../index/clock.ts';
import { flagVerified } from '../index/object-index.ts';
import { blocksOf, fileBlockBytes } from '../index/space.ts';
import type { BufferPool } from '../store/buffer-pool.ts';
import type { PageCacheWindow } from '../store/page-cache-window.ts';
import type { Store } from '../store/store.ts';
import { writeSnapshot } from './snapshot.ts';
import { planSnapshot } from './snapshot-format.ts';

/** A crash loses the recency of at most this time. */
const snapshotEveryMs = 5 * 60_000;
const lookEveryMs = 2_000;
/** The folders are measured after this many new files, and each minute. The spare blocks in folderBytes are enough for ten thousand. */
const measureEveryFiles = 1_000;
const looksPerMinute = 30;
/** Pause of the scrub after a pass over all objects. */
const scrubRestMs = 60 * 60_000;

interface MaintenanceOptions {
  readonly directory: string;
  readonly catalog: Catalog;
  readonly store: Store;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly window: PageCacheWindow;
  readonly buffers: BufferPool;
  readonly log: Logger;
  /** 0: no scrub. */
  readonly scrubBytesPerSecond: number;
  readonly health: FaultSink;
  /** Bytes of the folders and the snapshot. */
  readonly folderBytes: () => Promise<number>;
  readonly signal: AbortSignal;
}

export class Maintenance {
  readonly #options: MaintenanceOptions;

  constructor(options: MaintenanceOptions) {
    this.#options = options;
  }

  /** Runs until the signal aborts. Start it when all objects are counted. Does not reject. */
  async run(): Promise<void> {
    await Promise.all([this.#snapshots(), this.#scrub(), this.#measureFolders()]);
  }

  /** Writes a snapshot now. Takes its room first, as an upload does. Does not reject. */
  async writeSnapshot(): Promise<void> {
    const { directory, catalog, clock, health, log, folderBytes } = this.#options;
    const { space, index, groups, shares } = catalog;
    const own = shares.entries();
    const plan = planSnapshot({
      objects: index.count,
      names: groups.size,
      nameBytes: groups.nameBytes,
      shares: Object.keys(own).length,
    });
    const bytes = blocksOf(plan.maxBytes) * fileBlockBytes;
    if (!(await space.take(bytes, 0))) return log.warn('no room for the snapshot');
    try {
      const counts = { objects: index.count, blocks: index.totalBlocks };
      const totals = { tick: clock.tick(), takenAtMs: Date.now(), ...counts, shares: own };
      await writeSnapshot({ directory, index, groups, totals, plan });
      space.setOverhead(await folderBytes());
    } catch (error) {
      health.note(error, 'write');
      log.warn({ err: error }, 'the snapshot could not be written');
    } finally {
      space.giveBack(bytes, 0);
    }
  }

  async #snapshots(): Promise<void> {
    while (await this.#rest(snapshotEveryMs)) await this.writeSnapshot();
  }

  /** Folders grow with their files. A measurement takes 12 ms of CPU, so a shard that only reads is not measured every two seconds. */
  async #measureFolders(): Promise<void> {
    let coldBefore = 0;
    const { buffers, catalog, counters, window } = this.#options;
    for (let looks = 1; await this.#rest(lookEveryMs); looks += 1) {
      const isMinute = looks % looksPerMinute === 0;
      if (isMinute || catalog.space.filesSinceOverhead >= measureEveryFiles) await this.#measureFoldersOnce();
      if (!isMinute) continue;
      buffers.trim();
      // After a minute without a cold synchronous read, the window may be too small.
      if (counters.coldSyncReads === coldBefore) window.grow();
      coldBefore = counters.coldSyncReads;
    }
  }

  async #measureFoldersOnce(): Promise<void> {
    const { catalog, folderBytes, health } = this.#options;
    try {
      catalog.space.setOverhead(await folderBytes());
    } catch (error) {
      health.note(error, 'read');
    }
  }

  async #scrub(): Promise<void> {
    const { catalog, scrubBytesPerSecond } = this.#options;
    const { index } = catalog;
    if (scrubBytesPerSecond === 0) return;
    for (let isFirst = true; ; isFirst = false) {
      for (let row = 1; row < index.rowLimit; row += 1) {
        // The first pass skips objects that this process has written or checked.
        const isDue = !(isFirst && index.hasFlag(row, flagVerified)) && index.isUsed(row);
        if (!isDue) {
          if (row % 10_000 === 0 && !(await this.#rest(1))) return;
          continue;
        }
        const bytes = await this.#scrubRow(row);
        if (!(await this.#rest((bytes / scrubBytesPerSecond) * 1000))) return;
      }
      if (!(await this.#rest(scrubRestMs))) return;
    }
  }

  /** Checks one whole object. Resolves with its bytes. */
  async #scrubRow(row: number): Promise<number> {
    const { catalog, store, counters, health } = this.#options;
    const digest = catalog.index.digest(row);
    const bytes = catalog.bytesOf(row);
    try {
      await store.dropIfDamaged(digest);
      counters.scrubbedObjects += 1;
      // Its pages have displaced others in the page cache.
      this.#options.window.entered(bytes, this.#options.clock.tick());
    } catch (error) {
      health.note(error, 'read');
    }
    return bytes;
  }

  /** Resolves with false after the signal has aborted. */
  async #rest(ms: number): Promise<boolean> {
    if (ms > 0) await delay(ms, undefined, { signal: this.#options.signal, ref: false }).catch(() => {});
    return !this.#options.signal.aborted;
  }
}
