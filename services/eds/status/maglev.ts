/** Pure: Envoy's Maglev table, rebuilt from its rules (source/extensions/load_balancing_policies/maglev/maglev_lb.cc): which shard has how many of the keys. */

/** envoy/bootstrap.yaml */
export const tableSize = 655_373;

/** 64-bit xxHash of a text. */
export type Hash = (text: string, seed?: bigint) => bigint;

interface MaglevHost {
  readonly hashKey: string;
  readonly weight: number;
}

/** Slots that are looked at between two rests: the last free ones take many looks. */
const looksAtATime = 20_000;

/**
 * Slot → index into `hosts`. Hosts take turns in their order, each the next free slot of its own permutation; a host of half the largest weight has every second turn.
 * A generator, so that one process can do something else in between: all slots of 1,000 hosts take about half a second.
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

/** Every slot is as likely as any other, so the part of the slots is the part of the keys. */
export function countSlots(table: Int32Array, hosts: number): number[] {
  const counts = new Array<number>(hosts).fill(0);
  for (const index of table) if (index >= 0) counts[index] = (counts[index] as number) + 1;
  return counts;
}
