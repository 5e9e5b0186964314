/** Frees room ahead of need and off the request path. */
import type { EvictionPolicy } from './eviction.ts';
import { noRow, type ObjectIndex } from './object-index.ts';
import type { Pool, Shares } from './shares.ts';
import { fileBlockBytes, type Space } from './space.ts';

/** Files being removed at once: enough for the thread pool, few enough to leave it to readers. */
const maxRemovals = 8;
/** After a file that could not be removed: time in which no other is tried, so that a failing disk does not empty the index. */
const pauseMs = 5_000;

/** The row to evict next, or noRow when none may be evicted now; while room is not short, only one that is over its share. */
type ChooseVictim = (isShort: boolean) => number;

interface EvictorOptions {
  readonly index: ObjectIndex;
  readonly space: Space;
  readonly chooseVictim: ChooseVictim;
  /** Takes the row out of the index and removes its file. Resolves when the room is free, with false when the file could not be removed. Does not reject. */
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

  /** Starts evictions when room is short; cheap when it is not. */
  run(): void {
    const { space, chooseVictim } = this.#options;
    while (this.#pause === undefined && this.#removals < maxRemovals) {
      const row = chooseVictim(this.#isShort());
      if (row === noRow) break;
      this.#start(row);
    }
    // An upload that waits while nothing is left to evict would wait for ever.
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
    // While files are uncounted nothing is free by definition: only the room of waiting uploads is made.
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
