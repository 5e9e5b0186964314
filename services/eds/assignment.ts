/** Pure: builds the ClusterLoadAssignment of an Envoy from the shards. */
import type { ClusterLoadAssignment } from '../../proto/generated/envoy/config/endpoint/v3/ClusterLoadAssignment.ts';
import type { LbEndpoint } from '../../proto/generated/envoy/config/endpoint/v3/LbEndpoint.ts';
import type { Shard } from '../shared/shard-endpoints.ts';
import { compareText } from '../shared/unique-shards.ts';

/**
 * The same shards in the same order give the same message. Each zone becomes one locality. Without shards there is no locality, which
 * empties the cluster; a response without the resource would change nothing. The shards of `ownZone` get priority 0, all others priority 1.
 * Without `ownZone`, or when that zone has no shards, all get priority 0: Envoy rejects an assignment with a gap in its priorities.
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

/** Maglev reads hash_key in `envoy.lb` and ignores it unless it is a string. `kura` is for people who read `/clusters` or a config dump. */
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
