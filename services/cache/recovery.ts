/** After a start: counts what is on the disk, behind the requests. Until that is done the shard takes itself for full (space.ts). */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Logger } from '../shared/log.ts';
import type { Clock } from './clock.ts';
import { folderCount, temporaryFolder } from './file-name.ts';
import { unknownGroup } from './groups.ts';
import { listTemporary } from './limits.ts';
import { noRow } from './object-index.ts';
import { scanObjects } from './scan.ts';
import { blocksOf } from './space.ts';
import type { Store } from './store.ts';
import type { Tally } from './tally.ts';

export interface RecoveryOptions {
  readonly directory: string;
  /** The directory was made by this start. */
  readonly isNew: boolean;
  readonly store: Store;
  readonly clock: Clock;
  readonly tally: Tally;
  readonly log: Logger;
  readonly onFault: (error: unknown, operation: 'read' | 'write') => void;
  readonly signal: AbortSignal;
}

export class Recovery {
  /** Share of the folders that were counted. */
  ratio = 0;
  readonly #options: RecoveryOptions;

  constructor(options: RecoveryOptions) {
    this.#options = options;
  }

  /** Does not reject. */
  async run(): Promise<void> {
    const { directory, store, log, signal, tally, onFault } = this.#options;
    const startedMs = performance.now();
    if (this.#options.isNew) {
      this.ratio = 1;
      store.space.markCounted();
      return;
    }
    await this.#removeTemporary();
    await scanObjects({
      directory,
      signal,
      isKnown: ({ a, b, c }, name) => store.index.find(a, b, c) !== noRow || store.turns.isBusy(name),
      onObject: (digest, sizeBytes) => {
        tally.recoveredObjects += 1;
        if (store.index.isFull) return;
        store.index.insert({ ...digest, blocks: blocksOf(sizeBytes), tick: 1, group: unknownGroup }, 'oldest');
      },
      onForeign: (file) => {
        tally.foreignFiles += 1;
        if (tally.foreignFiles <= 10) log.warn({ file }, 'a file that is not of the cache is left alone');
      },
      onError: (error) => onFault(error, 'read'),
      onFolder: (number) => {
        this.ratio = (number + 1) / folderCount;
      },
    });
    if (signal.aborted) return;
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
}
