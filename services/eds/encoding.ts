/**
 * Encodes responses so that all streams share one encoding of a resource. Concatenated encodings of two parts of a message are an encoding
 * of the whole (https://protobuf.dev/programming-guides/encoding/#last-one-wins). The nonce differs between streams, so it is encoded
 * separately and comes first.
 */

import type { ClusterLoadAssignment } from '../../proto/generated/envoy/config/endpoint/v3/ClusterLoadAssignment.ts';
import type { loadEnvoyProtos } from '../../proto/load.ts';
import type { Response, SubscriptionRequest } from './subscription.ts';

type Protos = ReturnType<typeof loadEnvoyProtos>['envoy'];
export type StreamKind = SubscriptionRequest['kind'];

export const endpointType = 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment';

/** One resource, encoded for each kind of response. */
export type EncodedResource = Readonly<Record<StreamKind, Buffer>>;

export interface Encoder {
  assignment(assignment: ClusterLoadAssignment): Buffer;
  resource(resource: { name: string; version: string; bytes: Buffer }): EncodedResource;
  /** The complete response as bytes. */
  response(kind: StreamKind, typeUrl: string, response: Response, resources: ReadonlyMap<string, EncodedResource>): Buffer;
}

export function createEncoder(protos: Protos): Encoder {
  const { DiscoveryResponse, DeltaDiscoveryResponse } = protos.service.discovery.v3;
  const { ClusterLoadAssignment } = protos.config.endpoint.v3;
  return {
    assignment: (assignment) => ClusterLoadAssignment.serialize(assignment),
    resource: ({ name, version, bytes }) => {
      const resource = { type_url: endpointType, value: bytes };
      return {
        full: DiscoveryResponse.serialize({ resources: [resource] }),
        delta: DeltaDiscoveryResponse.serialize({ resources: [{ name, version, resource }] }),
      };
    },
    response: (kind, typeUrl, { nonce, version, names, removed }, resources) => {
      const head =
        kind === 'full'
          ? DiscoveryResponse.serialize({ type_url: typeUrl, nonce, version_info: version })
          : DeltaDiscoveryResponse.serialize({
              type_url: typeUrl,
              nonce,
              system_version_info: version,
              removed_resources: [...removed],
            });
      const parts = names.flatMap((name) => resources.get(name)?.[kind] ?? []);
      return Buffer.concat([head, ...parts]);
    },
  };
}
