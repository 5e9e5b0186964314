/** After a start: counts what is on the disk, behind the requests. Until that is done the shard takes itself for full (space.ts). */
import { lstatSync, unlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from '../../shared/log.ts';
import type { Counters } from '../counters.ts';
import type { Digest } from '../digest.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import { fileName, folderCount, objectPath, temporaryFolder } from '../disk/file-name.ts';
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
  /** The directory was made by this start. */
  readonly isNew: boolean;
  readonly catalog: Catalog;
  readonly mutex: KeyedMutex;
  /** In the names of this process's temporary files, which stay. */
  readonly runId: string;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Logger;
  readonly health: FaultSink;
  /** Called when all is counted, before the limits take over. */
  readonly onCounted: () => void;
  readonly signal: AbortSignal;
}

/** Rows looked at between two looks at the sockets. */
const sweepRows = 20_000;

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
      await this.#scan(takenAtMs);
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

  /** Rows that a scan has yet to confirm. Resolves with the time of the snapshot, 0 without one. */
  async #loadSnapshot(): Promise<number> {
    const { directory, catalog, mutex, clock, signal, log } = this.#options;
    const totals = await readSnapshot(
      directory,
      ({ tick, shares = {} }) => {
        clock.continueAfter(tick);
        for (const [namespace, share] of Object.entries(shares)) catalog.shares.learn(namespace, share);
      },
      ({ a, b, c, blocks, tick }, name) => {
        if (catalog.index.isFull || catalog.index.find(a, b, c) !== noRow || mutex.isBusy(fileName({ a, b, c }))) return;
        const group = name === undefined ? unknownGroup : catalog.groups.number(name);
        catalog.index.insert({ a, b, c, blocks, tick, group, flags: flagUnconfirmed }, 'oldest');
      },
      signal,
    );
    if (totals === undefined) log.info('no snapshot: all objects found are taken to be equally old');
    return totals?.takenAtMs ?? 0;
  }

  async #scan(takenAtMs: number): Promise<void> {
    const { directory, catalog, log, signal, counters, health, mutex } = this.#options;
    await scanObjects({
      directory,
      signal,
      isKnown: ({ a, b, c }, name) => {
        const row = catalog.index.find(a, b, c);
        return (row !== noRow && !catalog.index.hasFlag(row, flagUnconfirmed)) || mutex.isBusy(name);
      },
      onObject: (digest, sizeBytes, modifiedAtMs) => this.#count(digest, sizeBytes, takenAtMs > 0 && modifiedAtMs > takenAtMs),
      onForeign: (file) => {
        counters.foreignFiles += 1;
        if (counters.foreignFiles <= 10) log.warn({ file }, 'a file that is not of the cache is left alone');
      },
      onError: (error) => health.note(error, 'read'),
      onFolder: (number) => {
        this.ratio = (number + 1) / folderCount;
      },
    });
  }

  #count(digest: Digest, sizeBytes: number, isNewerThanSnapshot: boolean): void {
    const { catalog, clock, counters } = this.#options;
    const { index } = catalog;
    counters.recoveredObjects += 1;
    const row = index.find(digest.a, digest.b, digest.c);
    if (row !== noRow) {
      index.setFlag(row, flagUnconfirmed, false);
      index.resize(row, blocksOf(sizeBytes));
    } else if (index.isFull) {
      // More files than the limit allows now: what has no row could never be evicted.
      unlinkSync(objectPath(this.#options.directory, digest));
    } else {
      const place = isNewerThanSnapshot ? 'newest' : 'oldest';
      const tick = isNewerThanSnapshot ? clock.tick() : 1;
      index.insert({ ...digest, blocks: blocksOf(sizeBytes), tick, group: unknownGroup }, place);
    }
  }

  /** What a snapshot promised and no folder had. */
  async #sweepUnconfirmed(): Promise<void> {
    const { directory, catalog, signal } = this.#options;
    const { index } = catalog;
    for (let row = 1; row < index.rowLimit; row += 1) {
      if (row % sweepRows === 0) await nextTurn();
      if (signal.aborted) return;
      if (!index.hasFlag(row, flagUnconfirmed) || !index.isUsed(row)) continue;
      const stat = lstatSync(objectPath(directory, index.digest(row)), { throwIfNoEntry: false });
      if (stat === undefined) index.remove(row);
      else this.#count(index.digest(row), stat.size, false);
    }
  }
}
