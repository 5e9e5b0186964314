/** Pure: from the two request messages of xDS to what a subscription takes, within bounds. */
import type { DeltaDiscoveryRequest__Output } from '../../proto/generated/envoy/service/discovery/v3/DeltaDiscoveryRequest.ts';
import type { DiscoveryRequest__Output } from '../../proto/generated/envoy/service/discovery/v3/DiscoveryRequest.ts';
import type { StreamKind } from './encoding.ts';
import type { SubscriptionRequest } from './subscription.ts';

export type AnyDiscoveryRequest = DiscoveryRequest__Output | DeltaDiscoveryRequest__Output;

/** An Envoy asks for one name; a client that asks for more than these is broken or hostile. */
export const maxNames = 1_000;
/** Envoy's words may quote a whole assignment. */
const maxRefusalCharacters = 2_000;

/** Undefined where it names more than `maxNames`. */
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
