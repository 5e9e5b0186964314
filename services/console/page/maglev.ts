/**
 * Pure: builds Envoy's Maglev table, to count the keys of each shard. The rules are those of Envoy:
 * https://github.com/envoyproxy/envoy/blob/main/source/extensions/load_balancing_policies/maglev/maglev_lb.cc
 */

/** Same as in envoy/bootstrap.yaml. */
export const tableSize = 655_373;

/** 64-bit xxHash of a string. */
export type Hash = (text: string, seed?: bigint) => bigint;

interface MaglevHost {
  readonly hashKey: string;
  readonly weight: number;
}

/** Slots to examine between two pauses. Finding the last free slots takes many steps. */
const looksAtATime = 20_000;

/**
 * Slot → index into `hosts`. Hosts take turns in their order; each takes the next free slot of its permutation. A host with half the
 * largest weight takes every second turn. This is a generator, so the process can do other work in between: the slots of 1,000 hosts take
 * about half a second.
 */
export function* fillTable(hash: Hash, hosts: readonly MaglevHost[], size = tableSize): Generator<undefined, Int32Array> {
  const table = new Int32Array(size).fill(-1);
  const largest = Math.max(...hosts.map(({ weight }) => weight));
  const entries = hosts.map(({ hashKey, weight }) => ({
    offset: Number(hash(hashKey, 0n) % BigInt(size)),
    skip: Number(hash(hashKey, 1n) % BigInt(size - 1)) + 1,
    next: 0,
    weight,
    dueAt: 0,
  }));
  let looks = 0;
  for (let filled = 0, turn = 1; filled < size && entries.length > 0; turn += 1) {
    for (const [index, entry] of entries.entries()) {
      if (filled === size) break;
      if (turn * entry.weight < entry.dueAt) continue;
      entry.dueAt += largest;
      let slot = (entry.offset + entry.skip * entry.next) % size;
      while (table[slot] !== -1) {
        entry.next += 1;
        slot = (entry.offset + entry.skip * entry.next) % size;
        if (++looks % looksAtATime === 0) yield;
      }
      table[slot] = index;
      entry.next += 1;
      filled += 1;
      if (++looks % looksAtATime === 0) yield;
    }
  }
  return table;
}

/** Every slot is equally likely, so a shard's share of the slots is its share of the keys. */
export function countSlots(table: Int32Array, hosts: number): number[] {
  const counts = new Array<number>(hosts).fill(0);
  for (const index of table) if (index >= 0) counts[index] = (counts[index] as number) + 1;
  return counts;
}
