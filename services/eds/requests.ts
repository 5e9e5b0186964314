/** Pure: converts the two request messages of xDS for a subscription, within limits. */
import type { DeltaDiscoveryRequest__Output } from '../../proto/generated/envoy/service/discovery/v3/DeltaDiscoveryRequest.ts';
import type { DiscoveryRequest__Output } from '../../proto/generated/envoy/service/discovery/v3/DiscoveryRequest.ts';
import type { StreamKind } from './encoding.ts';
import type { SubscriptionRequest } from './subscription.ts';

export type AnyDiscoveryRequest = DiscoveryRequest__Output | DeltaDiscoveryRequest__Output;

/** An Envoy requests one name. A client that requests more than this limit is broken or hostile. */
export const maxNames = 1_000;
/** Envoy's error message may quote a whole assignment. */
const maxRefusalCharacters = 2_000;

/** Undefined when the request has more than `maxNames` names. */
export function readRequest(kind: StreamKind, request: AnyDiscoveryRequest): SubscriptionRequest | undefined {
  const refusal = request.error_detail ? (request.error_detail.message || 'no reason given').slice(0, maxRefusalCharacters) : undefined;
  const nonce = request.response_nonce ?? '';
  if (kind === 'full') {
    const { resource_names: names = [], version_info: version = '' } = request as DiscoveryRequest__Output;
    return names.length > maxNames ? undefined : { kind, names, version, nonce, refusal };
  }
  const {
    resource_names_subscribe: subscribe = [],
    resource_names_unsubscribe: unsubscribe = [],
    initial_resource_versions: initialVersions = {},
  } = request as DeltaDiscoveryRequest__Output;
  const count = subscribe.length + unsubscribe.length + Object.keys(initialVersions).length;
  return count > maxNames ? undefined : { kind, subscribe, unsubscribe, initialVersions, nonce, refusal };
}
