import type { Candidate } from '../../../services/shared/shard-endpoints.ts';

/** A healthy shard of Pod `kura-cache-<index>`, as a slice has it. */
export function candidate(index: number, changes: Partial<Candidate> = {}): Candidate {
  return {
    hashKey: `kura-cache-${index}/shard-0`,
    address: `10.0.${index >> 8}.${index & 255}`,
    port: 7000,
    metricsPort: 7100,
    health: 'HEALTHY',
    zone: 'a',
    node: `node-${index}`,
    weight: 1,
    createdAt: 1_000 + index,
    podUid: `uid-${index}`,
    ...changes,
  };
}

export function candidates(count: number): Candidate[] {
  return Array.from({ length: count }, (_, index) => candidate(index));
}
