/** Pure: from the EndpointSlices of the cache Service to the one ClusterLoadAssignment that Envoy gets. */
import type { V1Endpoint, V1EndpointSlice } from '@kubernetes/client-node';
import type { ClusterLoadAssignment } from '../../proto/generated/envoy/config/endpoint/v3/ClusterLoadAssignment.ts';
import type { LbEndpoint } from '../../proto/generated/envoy/config/endpoint/v3/LbEndpoint.ts';

export type Health = 'HEALTHY' | 'DRAINING' | 'UNHEALTHY';

/** One shard as Envoy shall see it. */
export interface Shard {
  /** What Maglev hashes: it stays when the shard comes back with another address. */
  readonly hashKey: string;
  readonly address: string;
  readonly port: number;
  readonly health: Health;
  readonly zone: string;
}

export interface Shards {
  readonly shards: readonly Shard[];
  /** What could not be taken, one line each. */
  readonly refused: readonly string[];
}

const shardPort = /^shard-\d+$/;
const ranks: Readonly<Record<Health, number>> = { HEALTHY: 0, DRAINING: 1, UNHEALTHY: 2 };

/**
 * Merges the slices. Each port `shard-<i>` of each endpoint is a shard. Of two with one hash_key or one address the healthier is kept, then the one of the lesser
 * address: two live endpoints with one hash_key would break the hashing (facts/envoy.md).
 */
export function shardsOf(slices: Iterable<V1EndpointSlice>, identity: 'pod' | 'node'): Shards {
  const refused: string[] = [];
  const candidates: Shard[] = [];
  for (const slice of slices) {
    for (const endpoint of slice.endpoints ?? []) {
      const owner = identity === 'pod' ? (endpoint.targetRef?.name ?? endpoint.hostname) : endpoint.nodeName;
      const address = endpoint.addresses[0];
      if (owner === undefined || address === undefined) {
        refused.push(`an endpoint of ${slice.metadata?.name} has no ${address === undefined ? 'address' : `${identity} name`}`);
        continue;
      }
      for (const { name, port } of slice.ports ?? []) {
        if (name === undefined || !shardPort.test(name) || port === undefined) continue;
        candidates.push({ hashKey: `${owner}/${name}`, address, port, health: healthOf(endpoint), zone: endpoint.zone ?? '' });
      }
    }
  }
  candidates.sort((a, b) => ranks[a.health] - ranks[b.health] || compare(where(a), where(b)) || compare(a.hashKey, b.hashKey));
  const keys = new Set<string>();
  const places = new Set<string>();
  const shards = candidates.filter((shard) => {
    const isTaken = keys.has(shard.hashKey) || places.has(where(shard));
    if (isTaken) refused.push(`${shard.hashKey} at ${where(shard)}: hash_key or address is taken`);
    keys.add(shard.hashKey);
    places.add(where(shard));
    return !isTaken;
  });
  shards.sort((a, b) => compare(a.hashKey, b.hashKey));
  return { shards, refused: refused.sort() };
}

/** `serving` and not `ready`: a Service that publishes addresses which are not ready calls them all ready. A missing condition means yes. */
function healthOf({ conditions = {} }: V1Endpoint): Health {
  const serves = conditions.serving ?? conditions.ready ?? true;
  if (!serves) return 'UNHEALTHY';
  return conditions.terminating ? 'DRAINING' : 'HEALTHY';
}

/** The same shards in the same order give the same message. Localities by zone; an assignment without shards is one without localities. */
export function assignmentOf(name: string, shards: readonly Shard[]): ClusterLoadAssignment {
  const zones = [...new Set(shards.map(({ zone }) => zone))].sort(compare);
  return {
    cluster_name: name,
    endpoints: zones.map((zone) => ({
      ...(zone === '' ? {} : { locality: { zone } }),
      lb_endpoints: shards.filter((shard) => shard.zone === zone).map(lbEndpoint),
    })),
  };
}

function lbEndpoint({ hashKey, address, port, health }: Shard): LbEndpoint {
  return {
    endpoint: { address: { socket_address: { address, port_value: port } } },
    health_status: health,
    metadata: { filter_metadata: { 'envoy.lb': { fields: { hash_key: { stringValue: hashKey } } } } },
  };
}

function where({ address, port }: Shard): string {
  return `${address}:${port}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
