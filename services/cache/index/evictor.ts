/** Frees room ahead of need and off the request path. */

import type { EvictionPolicy } from './eviction.ts';
import { noRow, type ObjectIndex } from './object-index.ts';
import type { Pool, Shares } from './shares.ts';
import type { Space } from './space.ts';

/** Files being removed at once: enough for the thread pool, few enough to leave it to readers. */
const maxRemovals = 8;

/** The row to give up next, or noRow when none may be given up now; while room is not short, only of what is over its share. */
type ChooseVictim = (isShort: boolean) => number;

interface EvictorOptions {
  readonly index: ObjectIndex;
  readonly space: Space;
  readonly chooseVictim: ChooseVictim;
  /** Takes the row out of the index and removes its file; resolves when its room is given back. Does not reject. */
  readonly evict: (row: number) => Promise<void>;
}

export class Evictor {
  readonly #options: EvictorOptions;
  /** Files are counted in whole: the index cannot hold more rows than its capacity, uploads in progress included. */
  #removals = 0;
  #pendingBytes = 0;
  #pendingFiles = 0;

  constructor(options: EvictorOptions) {
    this.#options = options;
  }

  /** Whether room for this can be had without giving up an object that the policy protects. */
  canMakeRoom(bytes: number): boolean {
    const { space, chooseVictim } = this.#options;
    return space.fits(bytes, 1) || this.#removals > 0 || chooseVictim(true) !== noRow;
  }

  /** Looks whether room is short and frees some; cheap when it is not. */
  run(): void {
    const { space, chooseVictim } = this.#options;
    while (this.#removals < maxRemovals) {
      const row = chooseVictim(this.#isShort());
      if (row === noRow) break;
      this.#start(row);
    }
    // Whoever waits while nothing is left to give up would wait for ever.
    while (this.#removals === 0 && space.wanted !== undefined) space.refuseFirst();
  }

  #start(row: number): void {
    const bytes = this.#options.index.blocks(row) * 4096;
    this.#removals += 1;
    this.#pendingBytes += bytes;
    this.#pendingFiles += 1;
    void this.#options.evict(row).then(() => {
      this.#removals -= 1;
      this.#pendingBytes -= bytes;
      this.#pendingFiles -= 1;
      this.run();
    });
  }

  #isShort(): boolean {
    const { space } = this.#options;
    const { bytes, files } = space.wanted ?? { bytes: 0, files: 0 };
    // While files are uncounted nothing is free by definition: only what somebody waits for is made.
    const headroom = space.isCounted ? space.headroom : { bytes: 0, files: 0 };
    return (
      space.freeBytes + this.#pendingBytes < Math.max(bytes, headroom.bytes) ||
      space.freeFiles + this.#pendingFiles < Math.max(files, headroom.files)
    );
  }
}

/** Chooses whose object goes (shares.ts), and which of these (eviction.ts). */
export class VictimChoice {
  readonly #index: ObjectIndex;
  readonly #shares: Shares;
  readonly #eviction: EvictionPolicy;

  constructor({ index, shares, eviction }: { index: ObjectIndex; shares: Shares; eviction: EvictionPolicy }) {
    this.#index = index;
    this.#shares = shares;
    this.#eviction = eviction;
  }

  /** What is over its share goes, whatever the policy protects; when room is short, something of the pool that is fullest for its share. noRow when none may go. */
  choose(isShort: boolean, tick: number): number {
    const over = this.#shares.over();
    if (over !== undefined) {
      const row = this.#eviction.victim(tick, over.number);
      return row === noRow ? this.#index.oldest(over.number) : row;
    }
    return isShort ? this.#eviction.victim(tick, this.#shares.fullest().number) : noRow;
  }

  /** Whether so much more fits into the pool's share without an object going that the policy protects. */
  hasShareFor(pool: Pool, bytes: number, tick: number): boolean {
    return !this.#shares.isOver(pool, bytes) || this.#eviction.victim(tick, pool.number) !== noRow;
  }
}
