/** Pure: converts the two request messages of xDS for a subscription, within limits. */
import type { DeltaDiscoveryRequest__Output } from '../../proto/generated/envoy/service/discovery/v3/DeltaDiscoveryRequest.ts';
import type { DiscoveryRequest__Output } from '../../proto/generated/envoy/service/discovery/v3/DiscoveryRequest.ts';
import type { StreamKind } from './encoding.ts';
import type { SubscriptionRequest } from './subscription.ts';

export type AnyDiscoveryRequest = DiscoveryRequest__Output | DeltaDiscoveryRequest__Output;

/** An Envoy requests one name. A client that requests more than this limit is broken or hostile. */
export const maxNames = 1_000;
/** A stream keeps the names, types and versions that a client sends. Envoy's are far shorter. */
export const maxTextCharacters = 1_024;
/** Envoy's error message may quote a whole assignment. */
const maxRefusalBytes = 2_000;

/** The beginning of a text of a client. It is a copy: a slice would keep the whole text in memory. */
export function cutText(text: string, maxBytes: number): string {
  return Buffer.from(text.slice(0, maxBytes)).subarray(0, maxBytes).toString();
}

/** Undefined when the request has more than `maxNames` names, or a name that is too long. */
export function readRequest(kind: StreamKind, request: AnyDiscoveryRequest): SubscriptionRequest | undefined {
  const refusal = request.error_detail ? cutText(request.error_detail.message || 'no reason given', maxRefusalBytes) : undefined;
  const nonce = request.response_nonce ?? '';
  if (kind === 'full') {
    const { resource_names: names = [], version_info: version = '' } = request as DiscoveryRequest__Output;
    return isTooMuch(names) || isTooMuch([version]) ? undefined : { kind, names, version, nonce, refusal };
  }
  const {
    resource_names_subscribe: subscribe = [],
    resource_names_unsubscribe: unsubscribe = [],
    initial_resource_versions: initialVersions = {},
  } = request as DeltaDiscoveryRequest__Output;
  const names = [...subscribe, ...unsubscribe, ...Object.keys(initialVersions)];
  return isTooMuch(names) || isTooMuch(Object.values(initialVersions))
    ? undefined
    : { kind, subscribe, unsubscribe, initialVersions, nonce, refusal };
}

function isTooMuch(texts: readonly string[]): boolean {
  return texts.length > maxNames || texts.some(({ length }) => length > maxTextCharacters);
}
