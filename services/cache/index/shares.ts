/**
 * Pure: the shares of namespaces in a shard. A namespace with a share in the policy has its own pool with all its groups. All other groups
 * are in the common pool. A share is a part of the room for objects, in bytes and in files. Without a limit in files, a flood of tiny
 * objects would evict the objects of other namespaces.
 */
import type { Groups } from './groups.ts';
import type { ObjectIndex } from './object-index.ts';
import { commonPool, maxPools } from './pools.ts';
import type { Room } from './space.ts';

export interface Pool {
  readonly number: number;
  /** 0 for the common pool, which has no guaranteed room. */
  share: number;
}

interface SharesOptions {
  readonly index: ObjectIndex;
  readonly groups: Groups;
  /** The room that the shares currently divide. */
  readonly usable: () => Room;
}

export class Shares {
  readonly #options: SharesOptions;
  readonly #common: Pool = { number: commonPool, share: 0 };
  readonly #pools = new Map<string, Pool>();
  /** By number. */
  readonly #byNumber: (Pool | undefined)[] = [this.#common];
  readonly #freed: number[] = [];

  constructor(options: SharesOptions) {
    this.#options = options;
  }

  /**
   * Each PUT has the share of its namespace, so a change of the policy needs no other channel. After 1,023 namespaces, others get no share.
   */
  learn(namespace: string, share: number | undefined): Pool {
    // Objects of an unknown writer count in no share.
    if (namespace === '') return this.#common;
    const known = this.#pools.get(namespace);
    if (known?.share === share) return known ?? this.#common;
    if (share === undefined) return this.#forget(namespace, known as Pool);
    const { pools } = this.#options.index;
    if (known !== undefined) {
      known.share = share;
      pools.setShare(known.number, share);
      return known;
    }
    const number = this.#freed.pop() ?? this.#pools.size + 1;
    if (number >= maxPools) return this.#common;
    const pool: Pool = { number, share };
    this.#pools.set(namespace, pool);
    this.#byNumber[number] = pool;
    pools.setShare(number, share);
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

  /** The byte limit of the pool. */
  limitBytes({ number, share }: Pool): number {
    return number === commonPool ? Number.POSITIVE_INFINITY : Math.floor(share * this.#options.usable().bytes);
  }

  /** Counts room of an upload before it is taken, or with a negative number after it was given back. */
  charge(pool: Pool, bytes: number): void {
    // A pool without its share has lost its number, which another pool may have now.
    if (pool.number !== commonPool && this.#isCurrent(pool)) this.#options.index.pools.addUploading(pool.number, bytes);
  }

  /** Whether the pool exceeds its share, or would with `bytes` more. */
  isOver(pool: Pool, bytes = 0): boolean {
    const { index, usable } = this.#options;
    return pool.number !== commonPool && this.#isCurrent(pool) && index.pools.fill(pool.number, usable(), bytes) > 1;
  }

  /** The pool that exceeds its share most, if any. */
  over(): Pool | undefined {
    const fullest = this.#fullestOwn();
    return fullest !== undefined && this.isOver(fullest) ? fullest : undefined;
  }

  /** The pool to evict from when room is short: the common pool, or if it is empty, the pool that uses most of its share. */
  fullest(): Pool {
    if (this.#options.index.pools.objects(commonPool) > 0) return this.#common;
    return this.#fullestOwn() ?? this.#common;
  }

  #fullestOwn(): Pool | undefined {
    if (this.#pools.size === 0) return undefined;
    const { index, usable } = this.#options;
    const number = index.pools.fullest(usable());
    return number === undefined ? undefined : this.#byNumber[number];
  }

  #isCurrent(pool: Pool): boolean {
    return this.#byNumber[pool.number] === pool;
  }

  #forget(namespace: string, pool: Pool): Pool {
    this.#pools.delete(namespace);
    this.#byNumber[pool.number] = undefined;
    this.#assign(namespace, commonPool);
    this.#options.index.pools.setShare(pool.number, 0);
    this.#freed.push(pool.number);
    return this.#common;
  }

  #assign(namespace: string, number: number): void {
    const { groups, index } = this.#options;
    for (const group of groups.ofNamespace(namespace)) index.assign(group, number);
  }
}
