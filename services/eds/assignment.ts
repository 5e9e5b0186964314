/** Pure: from the shards to the ClusterLoadAssignment that an Envoy gets. */
import type { ClusterLoadAssignment } from '../../proto/generated/envoy/config/endpoint/v3/ClusterLoadAssignment.ts';
import type { LbEndpoint } from '../../proto/generated/envoy/config/endpoint/v3/LbEndpoint.ts';
import type { Shard } from './shard.ts';
import { compareText } from './unique-shards.ts';

/**
 * The same shards in the same order give the same message. One locality a zone; no shards, no localities, which empties the cluster (leaving the resource out would
 * change nothing). The shards of `ownZone` come first (priority 0, all others 1); undefined, or a zone without shards, makes all alike. Priorities have no gap: Envoy
 * refuses one.
 */
export function assignmentOf(
  name: string,
  shards: readonly Shard[],
  { ownZone }: { readonly ownZone: string | undefined },
): ClusterLoadAssignment {
  const byZone = Map.groupBy(shards, ({ zone }) => zone);
  const hasOwn = ownZone !== undefined && byZone.has(ownZone);
  const zones = [...byZone.keys()].sort(compareText);
  return {
    cluster_name: name,
    endpoints: zones.map((zone) => ({
      ...(zone === '' ? {} : { locality: { zone } }),
      priority: hasOwn && zone !== ownZone ? 1 : 0,
      lb_endpoints: (byZone.get(zone) ?? []).map(lbEndpoint),
    })),
  };
}

/** `envoy.lb` is where Maglev looks for hash_key (a string, or it is ignored); `kura` is for people who look at `/clusters` or a config dump. */
function lbEndpoint({ hashKey, address, port, health, weight, node }: Shard): LbEndpoint {
  return {
    endpoint: { address: { socket_address: { address, port_value: port } } },
    health_status: health,
    load_balancing_weight: { value: weight },
    metadata: {
      filter_metadata: {
        'envoy.lb': { fields: { hash_key: { stringValue: hashKey } } },
        ...(node === '' ? {} : { kura: { fields: { node: { stringValue: node } } } }),
      },
    },
  };
}
