/** One Envoy's stream: requests into the subscription, the assignment out, never more than one answer waiting. */
import { status as grpcStatus, type ServerDuplexStream } from '@grpc/grpc-js';
import type { DiscoveryRequest__Output } from '../../proto/generated/envoy/service/discovery/v3/DiscoveryRequest.ts';
import type { DiscoveryResponse } from '../../proto/generated/envoy/service/discovery/v3/DiscoveryResponse.ts';
import type { Logger } from '../shared/log.ts';
import type { Metrics } from './metrics.ts';
import type { Publisher } from './publisher.ts';
import { Subscription } from './subscription.ts';

const endpointType = 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment';

export type DiscoveryStream = ServerDuplexStream<DiscoveryRequest__Output, DiscoveryResponse>;

/** The handler of `StreamEndpoints`. */
export function createStreamHandler({ publisher, metrics, log }: { publisher: Publisher; metrics: Metrics; log: Logger }) {
  return (stream: DiscoveryStream): void => {
    const subscription = new Subscription();
    let node = 'unknown';
    let isBlocked = false;
    metrics.streams.inc();

    const push = (): void => {
      const published = publisher.current;
      // While the client does not read, nothing is queued: when it does, it gets the newest.
      if (isBlocked || published === undefined || !subscription.wants(published.name, published.version)) return;
      const { version, bytes } = published;
      const nonce = subscription.sending(version);
      metrics.pushes.inc();
      isBlocked = !stream.write({
        version_info: version,
        resources: [{ type_url: endpointType, value: bytes }],
        type_url: endpointType,
        nonce,
      });
    };
    const unsubscribe = publisher.onPublish(push);
    stream.on('drain', () => {
      isBlocked = false;
      push();
    });
    stream.on('data', (request: DiscoveryRequest__Output) => {
      if (request.type_url && request.type_url !== endpointType) {
        stream.emit('error', { code: grpcStatus.INVALID_ARGUMENT, details: `only ${endpointType} is served, not ${request.type_url}` });
        return;
      }
      node = request.node?.id || node;
      const outcome = subscription.receive({
        resourceNames: request.resource_names ?? [],
        versionInfo: request.version_info ?? '',
        responseNonce: request.response_nonce ?? '',
        refusal: request.error_detail ? (request.error_detail.message ?? 'no reason given') : undefined,
      });
      if (outcome.kind === 'ack') metrics.acks.inc();
      if (outcome.kind === 'nack') {
        metrics.nacks.inc();
        log.error({ node, version: outcome.version, reason: outcome.reason }, 'an Envoy refused the assignment');
      }
      push();
    });
    const finish = (): void => {
      if (!unsubscribe()) return;
      metrics.streams.dec();
    };
    stream.on('end', () => {
      finish();
      stream.end();
    });
    for (const event of ['cancelled', 'error', 'close'] as const) stream.on(event, finish);
  };
}
