/** The xDS server: four methods that serve the publisher, the health service, and the keepalive that Envoy expects. */
import type { ServerCredentials, ServiceDefinition, UntypedHandleCall } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { loadEnvoyProtos } from '../../proto/load.ts';
import { startGrpcServer } from '../shared/grpc.ts';
import type { Listening } from '../shared/listen.ts';
import { createStreamHandler, type StreamContext } from './stream.ts';

type Protos = ReturnType<typeof loadEnvoyProtos>['envoy'];

/** Streams never end by themselves, so a longer wait would not help. */
const graceMs = 0;
/**
 * Envoy pings every 15 s (envoy/bootstrap.yaml). The server's pings detect a dead peer within 35 s. A connection lives for 30 min, and
 * grpc-js varies that by a tenth. Envoys therefore spread over the replicas again after an outage, and a reconnect resends nothing.
 */
const options = {
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_connection_age_ms': 1_800_000,
  'grpc.max_connection_age_grace_ms': 5_000,
  'grpc.max_concurrent_streams': 100,
  // A request contains names of resources, never resources.
  'grpc.max_receive_message_length': 1_048_576,
};

export interface DiscoveryServer extends Listening {
  /** Sets the status of the health service; it is NOT_SERVING before the first call. */
  setServing(isServing: boolean): void;
}

/** Without `credentials` the server uses no TLS. */
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

/** The streaming methods of a service, for responses that are already encoded. EDS also has a REST method, which no gRPC client uses. */
function streamsOf(service: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(service)
      .filter(([, method]) => method.responseStream)
      .map(([name, method]) => [name, { ...method, responseSerialize: (bytes: Buffer) => bytes }]),
  );
}
