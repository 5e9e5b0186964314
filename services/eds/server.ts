/** The xDS server: the four methods over the publisher, with the health service and the keepalive that Envoy expects. */
import type { ServerCredentials, ServiceDefinition, UntypedHandleCall } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { loadEnvoyProtos } from '../../proto/load.ts';
import { startGrpcServer } from '../shared/grpc.ts';
import type { Listening } from '../shared/listen.ts';
import { createStreamHandler, type StreamContext } from './stream.ts';

type Protos = ReturnType<typeof loadEnvoyProtos>['envoy'];

/** Clients' streams never end by themselves, so there is nothing to wait for. */
const graceMs = 0;
/**
 * Envoy pings every 15 s (envoy/bootstrap.yaml); ours find a peer that is gone within 35 s. A connection is closed after 30 min (grpc-js spreads that by a tenth), so that
 * Envoys spread over replicas again after one was away; a reconnect resends nothing.
 */
const options = {
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_connection_age_ms': 1_800_000,
  'grpc.max_connection_age_grace_ms': 5_000,
  'grpc.max_concurrent_streams': 100,
  // A request names resources, never holds them.
  'grpc.max_receive_message_length': 1_048_576,
};

export interface DiscoveryServer extends Listening {
  /** What the health service says from now on; NOT_SERVING before. */
  setServing(isServing: boolean): void;
}

/** Without `credentials`, in plain text. */
export async function startDiscoveryServer(
  protos: Protos,
  context: StreamContext,
  { target, credentials }: { target: string; credentials: ServerCredentials | undefined },
): Promise<DiscoveryServer> {
  const { EndpointDiscoveryService } = protos.service.endpoint.v3;
  const { AggregatedDiscoveryService } = protos.service.discovery.v3;
  const names = ['', 'envoy.service.endpoint.v3.EndpointDiscoveryService', 'envoy.service.discovery.v3.AggregatedDiscoveryService'];
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, 'NOT_SERVING' as const])));
  const setServing = (isServing: boolean): void => {
    for (const name of names) health.setStatus(name, isServing ? 'SERVING' : 'NOT_SERVING');
  };
  const handler = (kind: 'full' | 'delta', isAggregated: boolean): UntypedHandleCall =>
    createStreamHandler(context, kind, { isAggregated }) as UntypedHandleCall;
  const grpc = await startGrpcServer({
    target,
    graceMs,
    options,
    ...(credentials === undefined ? {} : { credentials }),
    register: (server) => {
      server.addService(streamsOf(EndpointDiscoveryService.service), {
        StreamEndpoints: handler('full', false),
        DeltaEndpoints: handler('delta', false),
      });
      server.addService(streamsOf(AggregatedDiscoveryService.service), {
        StreamAggregatedResources: handler('full', true),
        DeltaAggregatedResources: handler('delta', true),
      });
      health.addToServer(server);
    },
  });
  return {
    address: grpc.address,
    setServing,
    close: async () => {
      setServing(false);
      await grpc.close();
    },
  };
}

/** The streaming methods of a service (EDS has a REST twin, which nobody calls over gRPC), with answers that are encoded already. */
function streamsOf(service: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(service)
      .filter(([, method]) => method.responseStream)
      .map(([name, method]) => [name, { ...method, responseSerialize: (bytes: Buffer) => bytes }]),
  );
}
