/** Lists the keys under a prefix, page by page, in the order of file names. The keys are in the trailers of the files. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Counters } from '../counters.ts';
import type { Digest } from '../digest.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import type { ObjectMeta } from '../disk/trailer.ts';
import type { Catalog } from '../index/catalog.ts';
import { groupsUnder } from '../index/dataset-totals.ts';
import type { Inspected } from '../store/inspector.ts';
import type { Store } from '../store/store.ts';
import { Batches } from './batch.ts';
import { FirstDigests } from './first-digests.ts';

/** Rows that one turn of the event loop looks at: about 0.2 ms. */
const rowsPerTurn = 2_000;
/** Files of a batch: their results take about 1 ms of the event loop. */
const batchFiles = 64;
const minRestMs = 1;
/** A page reads at most this many files, for example if few keys of a group are under the prefix. */
const maxReads = 4_000;
/** A page ends after this time, so that its response comes within the timeout of its client also from a slow disk. */
const maxPageMs = 2_000;

interface KeysOptions {
  readonly catalog: Catalog;
  readonly store: Store;
  readonly health: FaultSink;
  readonly counters: Counters;
}

interface PageRequest {
  readonly prefix: string;
  readonly after: Digest | undefined;
  readonly limit: number;
  readonly signal: AbortSignal;
}

/** Where the next page begins, and whether a file of this page could not be read. */
interface PageEnd {
  readonly next: Digest | undefined;
  readonly isWhole: boolean;
}

export class Keys {
  readonly #options: KeysOptions;

  constructor(options: KeysOptions) {
    this.#options = options;
  }

  /** Yields the objects of one page in batches, and returns its end. Between two batches, requests run. */
  async *page({ prefix, after, limit, signal }: PageRequest): AsyncGenerator<readonly ObjectMeta[], PageEnd> {
    const untilMs = performance.now() + maxPageMs;
    const { digests, hasMore } = await this.#select(prefix, after, signal);
    const batches = new Batches({ counters: this.#options.counters, minRestMs, signal });
    let listed = 0;
    let isWhole = true;
    for (let at = 0; at < digests.length; ) {
      const batch = digests.slice(at, at + Math.min(batchFiles, limit - listed));
      const found = await batches.read(batch, (digest) => this.#look(digest));
      const objects = found.flatMap((each) => (each?.kind === 'stored' && each.meta.key.startsWith(prefix) ? each.meta : []));
      at += batch.length;
      listed += objects.length;
      if (found.includes(undefined)) isWhole = false;
      yield objects;
      const isLast = at >= digests.length && !hasMore;
      if (isLast) break;
      if (listed >= limit || at >= digests.length || performance.now() > untilMs || signal.aborted) return { next: batch.at(-1), isWhole };
    }
    return { next: undefined, isWhole };
  }

  async #select(prefix: string, after: Digest | undefined, signal: AbortSignal): Promise<ReturnType<FirstDigests['take']>> {
    const { index, groups } = this.#options.catalog;
    const first = new FirstDigests({ max: maxReads, after });
    let looks = 0;
    for (const group of groupsUnder(groups, prefix)) {
      for (const row of index.walk(group)) {
        first.offer(index.digest(row));
        looks += 1;
        if (looks % rowsPerTurn === 0) await nextTurn();
        if (signal.aborted) return first.take();
      }
    }
    return first.take();
  }

  /** Resolves with undefined after a disk fault. */
  async #look(digest: Digest): Promise<Inspected | undefined> {
    try {
      return await this.#options.store.inspect(digest);
    } catch (error) {
      this.#options.health.note(error, 'read');
      return undefined;
    }
  }
}
