/**
 * The background work of a shard on its data sets. It deletes what the removals cover, and it reads the trailers of objects whose data set
 * is not known: those that no snapshot had at the start.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../shared/log.ts';
import type { Counters } from '../counters.ts';
import type { Digest } from '../digest.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import type { Catalog } from '../index/catalog.ts';
import { groupsUnder } from '../index/dataset-totals.ts';
import { unknownGroup } from '../index/groups.ts';
import type { Store } from '../store/store.ts';
import { Batches } from './batch.ts';
import type { Removal, Removals } from './removals.ts';

/** On a busy machine, each step of a batch waits for a processor, so the batch is large. A file takes some 25 µs of the event loop. */
const batchFiles = 64;
const removing = { minRestMs: 1 };
/** It is not urgent to know a data set. */
const learning = { minRestMs: 10, idleRestMs: 10 };
/** Pause after a pass in which files could not be read or removed. */
const retryMs = 5_000;

interface SweepOptions {
  readonly catalog: Catalog;
  readonly store: Store;
  readonly removals: Removals;
  readonly health: FaultSink;
  readonly counters: Counters;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

export class Sweep {
  readonly #options: SweepOptions;
  #wake = Promise.withResolvers<void>();

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /** Call it when a removal was added. */
  start(): void {
    this.#wake.resolve();
  }

  /** Runs until the signal aborts. Start it when all objects are counted: a pass must find every object. Does not reject. */
  async run(): Promise<void> {
    const { removals, signal } = this.#options;
    signal.addEventListener('abort', () => this.#wake.resolve(), { once: true });
    let isLearned = false;
    while (!signal.aborted) {
      if (removals.running.length > 0) {
        await this.#remove();
      } else if (!isLearned) {
        isLearned = await this.#learn();
      } else {
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
      }
    }
  }

  /** One pass for all running removals. They end if it has found nothing to remove, and every removal before its end has succeeded. */
  async #remove(): Promise<void> {
    const { catalog, store, removals, signal } = this.#options;
    const { running } = removals;
    const restoredBefore = catalog.restoredRows;
    const groups = new Set(running.flatMap(({ prefix }) => groupsUnder(catalog.groups, prefix)));
    const nameless = [...groups].filter((group) => !catalog.groups.isDataSet(group));
    const found = { removed: 0, faults: 0 };
    // groupsUnder explains the order.
    for (const group of new Set([...nameless, ...groups])) await this.#inspectGroup(group, { rest: removing, found });
    await store.mutex.drained();
    // An upload that a removal has revoked during its rename is removed directly after it.
    await store.mutex.drained();
    if (signal.aborted) return;
    const isFaulty = found.faults > 0 || catalog.restoredRows !== restoredBefore;
    const isEnded = !isFaulty && found.removed === 0 && (await this.#end(running));
    if (!isEnded && found.removed === 0) await delay(retryMs, undefined, { signal, ref: false }).catch(() => {});
  }

  /** Resolves with false after a disk fault. */
  async #end(removals: readonly Removal[]): Promise<boolean> {
    try {
      for (const removal of removals) {
        await this.#options.removals.end(removal);
        this.#options.log.info({ prefix: removal.prefix, objects: removal.removed, bytes: removal.bytes }, 'a removal has ended');
      }
      return true;
    } catch (error) {
      this.#options.health.note(error, 'write');
      return false;
    }
  }

  /** Resolves with false if a removal came first. A file that cannot be read is tried again when it is requested. */
  async #learn(): Promise<boolean> {
    const isOver = () => this.#options.removals.running.length > 0;
    await this.#inspectGroup(unknownGroup, { rest: learning, found: { removed: 0, faults: 0 }, isOver });
    return !isOver();
  }

  /** Inspects all files of a group, until the signal aborts or `isOver` holds. */
  async #inspectGroup(group: number, { rest, found, isOver = () => false }: InspectOptions): Promise<void> {
    const { catalog, counters, signal } = this.#options;
    const batches = new Batches({ counters, signal, ...rest });
    let batch: Digest[] = [];
    const flush = async () => {
      await batches.read(batch, (digest) => this.#inspect(digest, found));
      batch = [];
    };
    for (const row of catalog.index.walk(group)) {
      batch.push(catalog.index.digest(row));
      if (batch.length < batchFiles) continue;
      await flush();
      if (signal.aborted || isOver()) return;
    }
    if (batch.length > 0) await flush();
  }

  async #inspect(digest: Digest, found: Found): Promise<void> {
    const { store, removals } = this.#options;
    try {
      // Only a removal expects to remove most files. Requests for a file wait while it is inspected alone.
      const inspected = await (removals.running.length > 0 ? store.inspectAlone(digest) : store.inspect(digest));
      if (inspected.kind === 'removed') found.removed += 1;
    } catch (error) {
      found.faults += 1;
      this.#options.health.note(error, 'write');
    }
  }
}

interface Found {
  removed: number;
  faults: number;
}

interface InspectOptions {
  readonly rest: { readonly minRestMs: number; readonly idleRestMs?: number };
  readonly found: Found;
  readonly isOver?: () => boolean;
}
