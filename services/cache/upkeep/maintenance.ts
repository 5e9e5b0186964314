/** Work that goes on beside the requests: the snapshot every few minutes, and the scrub that reads what nobody asks for. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../shared/log.ts';
import type { Counters } from '../counters.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import type { Catalog } from '../index/catalog.ts';
import type { Clock } from '../index/clock.ts';
import { flagVerified } from '../index/object-index.ts';
import { fileBlockBytes } from '../index/space.ts';
import type { PageCacheWindow } from '../store/page-cache-window.ts';
import type { Store } from '../store/store.ts';
import { snapshotBytes, writeSnapshot } from './snapshot.ts';

/** A crash loses the recency of at most this time. */
const snapshotEveryMs = 5 * 60_000;
const measureEveryMs = 2_000;
const growEveryLooks = 30;
/** After a pass over all objects the scrub rests. */
const scrubRestMs = 60 * 60_000;

interface MaintenanceOptions {
  readonly directory: string;
  readonly catalog: Catalog;
  readonly store: Store;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly window: PageCacheWindow;
  readonly log: Logger;
  /** 0: no scrub. */
  readonly scrubBytesPerSecond: number;
  readonly health: FaultSink;
  /** What the folders take; the snapshot's size is added to it. */
  readonly folderBytes: () => number;
  readonly signal: AbortSignal;
}

export class Maintenance {
  readonly #options: MaintenanceOptions;

  constructor(options: MaintenanceOptions) {
    this.#options = options;
  }

  /** Runs until the signal; start it when all objects are counted. Does not reject. */
  async run(): Promise<void> {
    await Promise.all([this.#snapshots(), this.#scrub(), this.#measureFolders()]);
  }

  /** Writes a snapshot now. Its room is taken first, like any other's. Does not reject. */
  async writeSnapshot(): Promise<void> {
    const { directory, catalog, clock, health, log, folderBytes } = this.#options;
    const { space, index, groups, shares } = catalog;
    const bytes = Math.ceil(snapshotBytes(index.count, groups.size) / fileBlockBytes) * fileBlockBytes;
    if (!(await space.take(bytes, 0))) return log.warn('no room for the snapshot');
    try {
      const counts = { objects: index.count, blocks: index.totalBlocks };
      const totals = { tick: clock.tick(), takenAtMs: Date.now(), ...counts, shares: shares.entries() };
      await writeSnapshot({ directory, index, groups, totals });
      space.setOverhead(folderBytes());
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

  /** Folders grow with the files in them: the slack of one block each that folderBytes adds lasts for some ten thousand new files between two looks. */
  async #measureFolders(): Promise<void> {
    let coldBefore = 0;
    for (let looks = 1; await this.#rest(measureEveryMs); looks += 1) {
      this.#options.catalog.space.setOverhead(this.#options.folderBytes());
      if (looks % growEveryLooks !== 0) continue;
      // A minute without a cold synchronous read: the window may have been made too small.
      const { counters, window } = this.#options;
      if (counters.coldSyncReads === coldBefore) window.grow();
      coldBefore = counters.coldSyncReads;
    }
  }

  async #scrub(): Promise<void> {
    const { catalog, scrubBytesPerSecond } = this.#options;
    const { index } = catalog;
    if (scrubBytesPerSecond === 0) return;
    for (let isFirst = true; ; isFirst = false) {
      for (let row = 1; row < index.rowLimit; row += 1) {
        // What this process wrote or read needs no second look in the first pass.
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

  /** Reads one object wholly; resolves with the bytes that this took. */
  async #scrubRow(row: number): Promise<number> {
    const { catalog, store, counters, health } = this.#options;
    const digest = catalog.index.digest(row);
    const bytes = catalog.bytesOf(row);
    try {
      await store.dropIfDamaged(digest);
      counters.scrubbedObjects += 1;
    } catch (error) {
      health.note(error, 'read');
    }
    return bytes;
  }

  /** False when it is time to stop. */
  async #rest(ms: number): Promise<boolean> {
    if (ms > 0) await delay(ms, undefined, { signal: this.#options.signal, ref: false }).catch(() => {});
    return !this.#options.signal.aborted;
  }
}
