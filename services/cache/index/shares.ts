/**
 * Pure: how much of a shard each namespace may have. A namespace whose policy sets a share has a pool of its own, which is all its groups; the rest has the common pool.
 * A share is a part of the room for objects, in bytes and in files alike, or a flood of tiny objects would push out what others have few of.
 */
import type { Groups } from './groups.ts';
import type { ObjectIndex } from './object-index.ts';
import { commonPool, maxPools } from './pools.ts';
import { fileBlockBytes } from './space.ts';

export interface Pool {
  readonly number: number;
  /** 0 for the common pool: whatever it has is more than anybody was promised. */
  share: number;
  /** Room of uploads in progress. */
  uploadingBytes: number;
}

interface SharesOptions {
  readonly index: ObjectIndex;
  readonly groups: Groups;
  /** What the shares are parts of, now. */
  readonly usable: () => { bytes: number; files: number };
}

export class Shares {
  readonly #options: SharesOptions;
  readonly #common: Pool = { number: commonPool, share: 0, uploadingBytes: 0 };
  readonly #pools = new Map<string, Pool>();
  readonly #freed: number[] = [];

  constructor(options: SharesOptions) {
    this.#options = options;
  }

  /** Each PUT tells its namespace's share, so that a change of the policy needs no other way here. Namespaces beyond the 1,023rd with a share have none. */
  learn(namespace: string, share: number | undefined): Pool {
    // What nobody is known to have written is nobody's share.
    if (namespace === '') return this.#common;
    const known = this.#pools.get(namespace);
    if (known?.share === share) return known ?? this.#common;
    if (share === undefined) return this.#forget(namespace, known as Pool);
    if (known !== undefined) {
      known.share = share;
      return known;
    }
    const number = this.#freed.pop() ?? this.#pools.size + 1;
    if (number >= maxPools) return this.#common;
    const pool: Pool = { number, share, uploadingBytes: 0 };
    this.#pools.set(namespace, pool);
    this.#assign(namespace, number);
    return pool;
  }

  poolOf(namespace: string): Pool {
    return this.#pools.get(namespace) ?? this.#common;
  }

  /** By namespace. */
  entries(): Record<string, number> {
    return Object.fromEntries([...this.#pools].map(([namespace, { share }]) => [namespace, share]));
  }

  /** The most bytes that the pool may have. */
  limitBytes({ number, share }: Pool): number {
    return number === commonPool ? Number.POSITIVE_INFINITY : Math.floor(share * this.#options.usable().bytes);
  }

  /** Whether the pool has more than its share, or would with so many bytes more. */
  isOver(pool: Pool, bytes = 0): boolean {
    return pool.number !== commonPool && this.#fillOf(pool, bytes) > 1;
  }

  /** The pool furthest over its share, if one is. */
  over(): Pool | undefined {
    const fullest = this.#fullestOwn();
    return fullest !== undefined && this.isOver(fullest) ? fullest : undefined;
  }

  /** Whose objects go when room is short: of whoever has no share, and when they have nothing, of the one that has most of its share. */
  fullest(): Pool {
    if (this.#options.index.pools.objects(commonPool) > 0) return this.#common;
    return this.#fullestOwn() ?? this.#common;
  }

  #fullestOwn(): Pool | undefined {
    if (this.#pools.size === 0) return undefined;
    const room = this.#options.usable();
    let fullest: Pool | undefined;
    let most = 0;
    for (const pool of this.#pools.values()) {
      if (this.#options.index.pools.objects(pool.number) === 0) continue;
      const fill = this.#fillOf(pool, 0, room);
      if (fill <= most) continue;
      most = fill;
      fullest = pool;
    }
    return fullest;
  }

  #fillOf({ number, share, uploadingBytes }: Pool, bytes: number, room = this.#options.usable()): number {
    const { index } = this.#options;
    const ofBytes = (index.pools.blocks(number) * fileBlockBytes + uploadingBytes + bytes) / room.bytes;
    return Math.max(ofBytes, index.pools.objects(number) / room.files) / share;
  }

  #forget(namespace: string, pool: Pool): Pool {
    this.#pools.delete(namespace);
    this.#assign(namespace, commonPool);
    this.#freed.push(pool.number);
    return this.#common;
  }

  #assign(namespace: string, number: number): void {
    const { groups, index } = this.#options;
    for (let group = 0; group < groups.size; group += 1) if (groups.name(group)?.namespace === namespace) index.assign(group, number);
  }
}
