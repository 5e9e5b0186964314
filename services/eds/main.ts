/** eds: tells every Envoy which shards there are. */
import type { V1EndpointSlice } from '@kubernetes/client-node';
import { loadEnvoyProtos } from '../../proto/load.ts';
import { readSettings } from '../shared/environment.ts';
import { startGrpcServer } from '../shared/grpc.ts';
import { connectKubernetes } from '../shared/kubernetes.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import { startReflector } from '../shared/reflector.ts';
import { settings } from './config.ts';
import { createMetrics } from './metrics.ts';
import { Publisher } from './publisher.ts';
import { createStreamHandler } from './stream.ts';

/** Envoys' streams never end by themselves, so there is nothing to wait for. */
const graceMs = 0;
/** Below Envoy's own 15 s + 5 s, and what makes a dead peer's stream go away. */
const keepalive = {
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.http2.min_ping_interval_without_data_ms': 5_000,
};

await runService(async () => {
  const { listen, metricsListen, kubeconfig, namespace, service, identity, debounce, debounceLimit, logLevel } = readSettings(
    'KURA_EDS_',
    settings,
    process.env,
  );
  const log = createLogger({ service: 'eds', level: logLevel });
  const client = connectKubernetes({ kubeconfig });
  const protos = loadEnvoyProtos().envoy;
  const publisher = new Publisher({
    name: service,
    identity,
    slices: () => reflector.objects(),
    encode: (assignment) => protos.config.endpoint.v3.ClusterLoadAssignment.serialize(assignment),
    debounceMs: debounce,
    debounceLimitMs: debounceLimit,
    log,
  });
  const reflector = startReflector<V1EndpointSlice>({
    client,
    path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
    labelSelector: `kubernetes.io/service-name=${service}`,
    onChange: () => {
      if (reflector.synced) publisher.touch();
    },
    onSynced: () => publisher.touch(),
    log,
  });
  const registry = createRegistry();
  const metrics = createMetrics({ registry, publisher, lastContact: () => reflector.lastContact });
  const handler = createStreamHandler({ publisher, metrics, log });
  const { EndpointDiscoveryService } = protos.service.endpoint.v3;
  const grpc = await startGrpcServer({
    target: listen,
    graceMs,
    options: keepalive,
    register: (server) => server.addService(EndpointDiscoveryService.service, { StreamEndpoints: handler }),
  });
  const metricsServer = await startMetricsServer({
    address: metricsListen,
    registry,
    notReady: () => (publisher.current === undefined ? 'no list of EndpointSlices has come yet' : undefined),
  });
  return {
    log,
    running: {
      listening: { grpc: grpc.address, metrics: metricsServer.address },
      close: async () => {
        await grpc.close();
        await metricsServer.close();
        publisher.close();
        await reflector.close();
        await client.close();
      },
    },
  };
});
