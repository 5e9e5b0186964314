/** The share of the keys that each shard owns, computed on demand after the shards have changed. */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import xxhash from 'xxhash-wasm';
import type { Shard } from '../../shared/shard-endpoints.ts';
import { countSlots, fillTable, tableSize } from './maglev.ts';

export type KeyShares = ReadonlyMap<string, number>;

export class KeySharesCache {
  #of = '';
  /** The last result. */
  #known: KeyShares = new Map();
  #shares: Promise<KeyShares> = Promise.resolve(new Map());

  /**
   * By hash_key. A shard that is not healthy has no share. With placement by zone, the share counts the keys of an Envoy in the shard's
   * zone.
   */
  sharesOf(shards: readonly Shard[], placement: 'global' | 'zone'): Promise<KeyShares> {
    const healthy = shards.filter(({ health }) => health === 'HEALTHY');
    const of = JSON.stringify([placement, healthy.map(({ hashKey, weight, zone }) => [hashKey, weight, zone])]);
    if (of !== this.#of) {
      this.#of = of;
      const tables = placement === 'zone' ? [...Map.groupBy(healthy, ({ zone }) => zone).values()] : [healthy];
      this.#shares = workOut(tables).then((shares) => {
        this.#known = shares;
        return shares;
      });
    }
    return this.#shares;
  }

  /** The same, or the result before, if the computation takes longer than `maxWaitMs`. The one of 1,000 shards takes a second. */
  async sharesWithin(maxWaitMs: number, ...of: Parameters<KeySharesCache['sharesOf']>): Promise<KeyShares> {
    const timeout = new AbortController();
    const late = delay(maxWaitMs, undefined, { signal: timeout.signal, ref: false }).then(
      () => this.#known,
      () => this.#known,
    );
    return await Promise.race([this.sharesOf(...of), late]).finally(() => timeout.abort());
  }
}

async function workOut(tables: readonly (readonly Shard[])[]): Promise<KeyShares> {
  const { h64 } = await xxhash();
  const shares = new Map<string, number>();
  for (const hosts of tables) {
    const work = fillTable(h64, hosts);
    let step = work.next();
    while (!step.done) {
      await nextTurn();
      step = work.next();
    }
    const slots = countSlots(step.value, hosts.length);
    for (const [index, { hashKey }] of hosts.entries()) shares.set(hashKey, (slots[index] as number) / tableSize);
  }
  return shares;
}
