/** Evicts objects before their room is needed, outside of the request path. */
import type { EvictionPolicy } from './eviction.ts';
import { noRow, type ObjectIndex } from './object-index.ts';
import type { Pool, Shares } from './shares.ts';
import { fileBlockBytes, type Space } from './space.ts';

/** Concurrent removals: enough to use the thread pool, few enough to leave threads for readers. */
const maxRemovals = 8;
/** Pause after a file could not be removed, so that a failing disk is not tried with each object. */
const pauseMs = 5_000;

/** Returns the next row to evict, or noRow. While room is not short, it returns only a row of a namespace over its share. */
type ChooseVictim = (isShort: boolean) => number;

interface EvictorOptions {
  readonly index: ObjectIndex;
  readonly space: Space;
  readonly chooseVictim: ChooseVictim;
  /**
   * Removes a row and its file. Resolves with true when the room is free, or with false if the file could not be removed. Does not reject.
   */
  readonly evict: (row: number) => Promise<boolean>;
}

export class Evictor {
  readonly #options: EvictorOptions;
  #removals = 0;
  #pendingBytes = 0;
  #pendingFiles = 0;
  #pause: NodeJS.Timeout | undefined;

  constructor(options: EvictorOptions) {
    this.#options = options;
  }

  /** Whether this fits, or can fit after evictions that the policy allows. */
  canMakeRoom(bytes: number): boolean {
    const { space, chooseVictim } = this.#options;
    if (space.fits(bytes, 1)) return true;
    return this.#pause === undefined && (this.#removals > 0 || chooseVictim(true) !== noRow);
  }

  /** Starts evictions if they are needed. Otherwise it is cheap. */
  run(): void {
    const { space, chooseVictim } = this.#options;
    while (this.#pause === undefined && this.#removals < maxRemovals) {
      const row = chooseVictim(this.#isShort());
      if (row === noRow) break;
      this.#start(row);
    }
    // When nothing is left to evict, a waiting upload would wait forever.
    while (this.#removals === 0 && space.wanted !== undefined) space.refuseFirst();
  }

  #start(row: number): void {
    const bytes = this.#options.index.blocks(row) * fileBlockBytes;
    this.#removals += 1;
    this.#pendingBytes += bytes;
    this.#pendingFiles += 1;
    void this.#options.evict(row).then((isRemoved) => {
      this.#removals -= 1;
      this.#pendingBytes -= bytes;
      this.#pendingFiles -= 1;
      if (!isRemoved) this.#startPause();
      this.run();
    });
  }

  #startPause(): void {
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.run();
    }, pauseMs);
    this.#pause.unref();
  }

  #isShort(): boolean {
    const { space } = this.#options;
    const { bytes, files } = space.wanted ?? { bytes: 0, files: 0 };
    // Until all files are counted, no room counts as free. Then only the room for waiting uploads is needed.
    const headroom = space.isCounted ? space.headroom : { bytes: 0, files: 0 };
    return (
      space.freeBytes + this.#pendingBytes < Math.max(bytes, headroom.bytes) ||
      space.freeFiles + this.#pendingFiles < Math.max(files, headroom.files)
    );
  }
}

/** Selects the pool to evict from (shares.ts), and its object (eviction.ts). */
export class VictimChoice {
  readonly #index: ObjectIndex;
  readonly #shares: Shares;
  readonly #eviction: EvictionPolicy;

  constructor({ index, shares, eviction }: { index: ObjectIndex; shares: Shares; eviction: EvictionPolicy }) {
    this.#index = index;
    this.#shares = shares;
    this.#eviction = eviction;
  }

  /**
   * A pool over its share loses an object even if the policy protects it. Otherwise, if room is short, the fullest pool loses an object.
   * Returns noRow if no object may be evicted.
   */
  choose(isShort: boolean, tick: number): number {
    const over = this.#shares.over();
    if (over !== undefined) {
      const row = this.#eviction.victim(tick, over.number);
      return row === noRow ? this.#index.oldest(over.number) : row;
    }
    return isShort ? this.#eviction.victim(tick, this.#shares.fullest().number) : noRow;
  }

  /** Whether `bytes` more fit into the share of the pool, if needed after the eviction of an object that the policy does not protect. */
  hasShareFor(pool: Pool, bytes: number, tick: number): boolean {
    return !this.#shares.isOver(pool, bytes) || this.#eviction.victim(tick, pool.number) !== noRow;
  }
}
