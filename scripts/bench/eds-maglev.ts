/**
 * Simulates which keys move when shards come and go, with the Maglev table of the status page. The bench first verifies the table against
 * the real Envoy.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import xxhash from 'xxhash-wasm';
import { countSlots, fillTable, type Hash, tableSize } from '../../services/console/page/maglev.ts';

export async function loadHash(): Promise<Hash> {
  return (await xxhash()).h64;
}

/** Maps slots to indexes of `hashKeys`. All shards have the same weight. */
export function buildTable(hash: Hash, hashKeys: readonly string[]): Int32Array {
  const work = fillTable(
    hash,
    hashKeys.map((hashKey) => ({ hashKey, weight: 1 })),
  );
  let step = work.next();
  while (!step.done) step = work.next();
  return step.value;
}

/** The shard that Envoy's header hash policy selects for a key. */
export function shardOf(hash: Hash, table: Int32Array, hashKeys: readonly string[], key: string): string {
  return hashKeys[table[Number(hash(key, 0n) % BigInt(table.length))] as number] as string;
}

interface Moved {
  readonly shards: number;
  readonly change: string;
  /** Share of the keys that moved to another shard. */
  readonly moved: number;
  readonly least: number;
  /** Largest share of one shard over the mean, before the change. */
  readonly spread: number;
}

/** All slots are equally likely, so the share of slots is the share of keys. */
export function simulateMoves(hash: Hash): Moved[] {
  const rows: Moved[] = [];
  for (const shards of [4, 10, 100, 1_000]) {
    const names = Array.from({ length: shards }, (_, index) => `kura-cache-${index}/shard-0`);
    const before = buildTable(hash, names);
    const spread = Math.max(...countSlots(before, shards)) / (tableSize / shards);
    const share = (after: readonly string[]): number => {
      const table = buildTable(hash, after);
      let moved = 0;
      for (let slot = 0; slot < tableSize; slot++) if (names[before[slot] as number] !== after[table[slot] as number]) moved += 1;
      return moved / tableSize;
    };
    const counts = new Map([
      ['1', 1],
      ['2', 2],
      ['10 %', Math.ceil(shards / 10)],
    ]);
    for (const [word, count] of counts) {
      // The removed shards are evenly spaced, so that their numbering does not matter.
      const leaving = new Set(Array.from({ length: count }, (_, index) => Math.floor((index * shards) / count + shards / (2 * count))));
      rows.push({
        shards,
        change: `${word} leave`,
        moved: share(names.filter((_, index) => !leaving.has(index))),
        least: count / shards,
        spread,
      });
    }
    // Envoy appends a host with a new address, and hosts choose slots in their order. This alone moves a few keys.
    const returning = Math.ceil(shards / 10);
    const returned = [...names.slice(returning), ...names.slice(0, returning)];
    rows.push({ shards, change: '10 % return with other addresses', moved: share(returned), least: 0, spread });
    for (const [word, count] of counts) {
      const grown = [...names, ...Array.from({ length: count }, (_, index) => `kura-cache-${shards + index}/shard-0`)];
      rows.push({ shards, change: `${word} come new`, moved: share(grown), least: count / (shards + count), spread });
    }
  }
  return rows;
}

/** An HTTP server on all loopback addresses that returns the address of the request, so that one server represents many shards. */
export async function startEchoServer(): Promise<{ port: number; close(): void }> {
  const server = createServer((request, response) => response.end(request.socket.localAddress?.replace('::ffff:', '')));
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
