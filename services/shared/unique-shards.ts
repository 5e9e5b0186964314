/** Pure: selects one shard when several candidates exclude each other. */
import type { Candidate, Health, Shard } from './shard-endpoints.ts';

interface UniqueShards {
  /** Sorted by hash_key: the same candidates in any order give the same shards. */
  readonly shards: readonly Shard[];
  /** The refused candidates, one line each. */
  readonly refused: readonly string[];
}

const ranks: Readonly<Record<Health, number>> = { HEALTHY: 0, DRAINING: 1, UNHEALTHY: 2 };

/**
 * Two endpoints with one hash_key would break Maglev, and of two with one address Envoy silently drops one. The healthier candidate wins,
 * then the one with the older Pod, then the smaller Pod UID, then the smaller address. The same Pod may appear twice: slices overlap while
 * Kubernetes moves endpoints, and a dual-stack Service lists each Pod in both families. That is neither a conflict nor a refusal.
 */
export function uniqueShards(candidates: readonly Candidate[]): UniqueShards {
  const refused: string[] = [];
  const byKey = new Map<string, Candidate>();
  const byPlace = new Map<string, Candidate>();
  for (const candidate of [...candidates].sort(compareCandidates)) {
    const winner = byKey.get(candidate.hashKey) ?? byPlace.get(placeOf(candidate));
    if (winner === undefined) {
      byKey.set(candidate.hashKey, candidate);
      byPlace.set(placeOf(candidate), candidate);
    } else if (!isSamePod(candidate, winner)) {
      const what = winner.hashKey === candidate.hashKey ? 'hash_key' : 'address';
      refused.push(`${candidate.hashKey} at ${placeOf(candidate)}: ${winner.hashKey} at ${placeOf(winner)} has the same ${what}`);
    }
  }
  const shards = [...byKey.values()].map(({ createdAt: _createdAt, podUid: _podUid, ...shard }): Shard => shard);
  return { shards: shards.sort((a, b) => compareText(a.hashKey, b.hashKey)), refused: refused.sort() };
}

/** The address and port of a shard; unique in an assignment. */
export function placeOf({ address, port }: Pick<Shard, 'address' | 'port'>): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Compares code units, so every replica sorts alike in any locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isSamePod(a: Candidate, b: Candidate): boolean {
  return a.hashKey === b.hashKey && (a.podUid !== '' ? a.podUid === b.podUid : placeOf(a) === placeOf(b));
}

function compareCandidates(a: Candidate, b: Candidate): number {
  return (
    ranks[a.health] - ranks[b.health] ||
    (a.createdAt === b.createdAt ? 0 : a.createdAt - b.createdAt) ||
    compareText(a.podUid, b.podUid) ||
    // IPv4 before IPv6, so that a dual-stack Pod keeps its address.
    Number(a.address.includes(':')) - Number(b.address.includes(':')) ||
    compareText(placeOf(a), placeOf(b)) ||
    compareText(a.hashKey, b.hashKey) ||
    compareText(JSON.stringify([a.zone, a.node, a.weight]), JSON.stringify([b.zone, b.node, b.weight]))
  );
}
