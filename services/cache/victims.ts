/** Pure: whose object goes (shares.ts), and which of these (eviction.ts). */
import type { EvictionPolicy } from './eviction.ts';
import { noRow, type ObjectIndex } from './object-index.ts';
import type { Pool, Shares } from './shares.ts';

export class Victims {
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
