/** After a start: counts what is on the disk, behind the requests. Until that is done the shard takes itself for full (space.ts). */
import { lstatSync, unlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from '../../shared/log.ts';
import type { Counters } from '../counters.ts';
import { type Digest, fileName, folderCount, objectPath, temporaryFolder } from '../disk/file-name.ts';
import type { Clock } from '../index/clock.ts';
import { unknownGroup } from '../index/groups.ts';
import { flagUnconfirmed, noRow } from '../index/object-index.ts';
import { blocksOf } from '../index/space.ts';
import type { Store } from '../store/store.ts';
import { listTemporary } from './limits.ts';
import { scanObjects } from './scan.ts';
import { readSnapshot } from './snapshot.ts';

interface RecoveryOptions {
  readonly directory: string;
  /** The directory was made by this start. */
  readonly isNew: boolean;
  readonly store: Store;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Logger;
  readonly onFault: (error: unknown, operation: 'read' | 'write') => void;
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
    const { store, log, signal, isNew, onCounted } = this.#options;
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
    store.space.markCounted();
    store.evictor.run();
    log.info(
      { objects: store.index.count, bytes: store.space.usedBytes, seconds: (performance.now() - startedMs) / 1000 },
      'all objects are counted',
    );
  }

  async #removeTemporary(): Promise<void> {
    const folder = temporaryFolder(this.#options.directory);
    for (const name of listTemporary(folder)) {
      if (name.startsWith(this.#options.store.runId)) continue;
      await rm(path.join(folder, name), { force: true }).catch((error: unknown) => this.#options.onFault(error, 'write'));
    }
  }

  /** Rows that a scan has yet to confirm. Resolves with the time of the snapshot, 0 without one. */
  async #loadSnapshot(): Promise<number> {
    const { directory, store, clock, signal, log } = this.#options;
    const totals = await readSnapshot(
      directory,
      ({ tick, shares = {} }) => {
        clock.continueAfter(tick);
        for (const [namespace, share] of Object.entries(shares)) store.shares.learn(namespace, share);
      },
      ({ a, b, c, blocks, tick }, name) => {
        if (store.index.isFull || store.index.find(a, b, c) !== noRow || store.mutex.isBusy(fileName({ a, b, c }))) return;
        const group = name === undefined ? unknownGroup : store.groups.number(name);
        store.index.insert({ a, b, c, blocks, tick, group, flags: flagUnconfirmed }, 'oldest');
      },
      signal,
    );
    if (totals === undefined) log.info('no snapshot: all objects found are taken to be equally old');
    return totals?.takenAtMs ?? 0;
  }

  async #scan(takenAtMs: number): Promise<void> {
    const { directory, store, log, signal, counters, onFault } = this.#options;
    await scanObjects({
      directory,
      signal,
      isKnown: ({ a, b, c }, name) => {
        const row = store.index.find(a, b, c);
        return (row !== noRow && !store.index.hasFlag(row, flagUnconfirmed)) || store.mutex.isBusy(name);
      },
      onObject: (digest, sizeBytes, modifiedAtMs) => this.#count(digest, sizeBytes, takenAtMs > 0 && modifiedAtMs > takenAtMs),
      onForeign: (file) => {
        counters.foreignFiles += 1;
        if (counters.foreignFiles <= 10) log.warn({ file }, 'a file that is not of the cache is left alone');
      },
      onError: (error) => onFault(error, 'read'),
      onFolder: (number) => {
        this.ratio = (number + 1) / folderCount;
      },
    });
  }

  #count(digest: Digest, sizeBytes: number, isNewerThanSnapshot: boolean): void {
    const { store, clock, counters } = this.#options;
    const { index } = store;
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
    const { directory, store, signal } = this.#options;
    const { index } = store;
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
