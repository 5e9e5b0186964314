/** eds: tells every Envoy which shards there are. */
import type { KubernetesObject, V1EndpointSlice } from '@kubernetes/client-node';
import { loadEnvoyProtos } from '../../proto/load.ts';
import { readSettings } from '../shared/environment.ts';
import { connectKubernetes } from '../shared/kubernetes.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import { Reflector } from '../shared/reflector.ts';
import { openCertificates } from './certificates.ts';
import { settings } from './config.ts';
import { createEncoder } from './encoding.ts';
import { createMetrics, createPropagation } from './metrics.ts';
import { Publisher } from './publisher.ts';
import { startDiscoveryServer } from './server.ts';
import { readSlices } from './shard.ts';
import { startStatus } from './status/http.ts';
import { StreamList } from './stream-list.ts';

await runService(async () => {
  const config = readSettings('KURA_EDS_', settings, process.env);
  const { namespace, service, podSelector, identity, placement } = config;
  const log = createLogger({ service: 'eds', level: config.logLevel });
  const certificates = config.tlsDirectory === undefined ? undefined : await openCertificates(config.tlsDirectory, { log });
  const client = connectKubernetes({ kubeconfig: config.kubeconfig });
  const protos = loadEnvoyProtos().envoy;
  const encoder = createEncoder(protos);
  const publisher = new Publisher({
    name: service,
    placement,
    read: () => readSlices(slices.objects(), { identity, podOf: (name) => pods.get(`${namespace}/${name}`)?.metadata }),
    encoder,
    limits: { unhealthyMs: config.unhealthy, collapseShare: config.collapsePercent / 100, collapseHoldMs: config.collapseHold },
    debounceMs: config.debounce,
    debounceLimitMs: config.debounceLimit,
    log,
  });
  // Both lists, or weights would come late and move keys. What comes before them is one touch.
  const touch = (): void => {
    if (slices.synced && pods.synced) publisher.touch();
  };
  const slices = new Reflector<V1EndpointSlice>({
    client,
    path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
    labelSelector: `kubernetes.io/service-name=${service}`,
    onChange: touch,
    onSynced: touch,
    log,
  });
  const pods = new Reflector<KubernetesObject>({
    client,
    path: `/api/v1/namespaces/${namespace}/pods`,
    ...(podSelector === undefined ? {} : { labelSelector: podSelector }),
    metadataOnly: true,
    onChange: touch,
    onSynced: touch,
    log,
  });
  const registry = createRegistry();
  const propagation = createPropagation(registry);
  const streams = new StreamList({ onLast: (seconds) => propagation.observe(seconds) });
  const lastContact = (): number | undefined =>
    slices.lastContact === undefined || pods.lastContact === undefined ? undefined : Math.min(slices.lastContact, pods.lastContact);
  const metrics = createMetrics({ registry, publisher, streams, lastContact });
  const context = { publisher, encoder, streams, mostStreams: config.maxStreams, metrics, log };
  const grpc = await startDiscoveryServer(protos, context, { target: config.listen, credentials: certificates?.credentials });
  publisher.onPublish(() => grpc.setServing(true));
  grpc.setServing(publisher.isReady);
  const status = startStatus({ client, namespace, service, placement, publisher, streams, intervalMs: config.statusInterval, log });
  const metricsServer = await startMetricsServer({
    address: config.metricsListen,
    registry,
    notReady: () => {
      if (publisher.isReady) return undefined;
      return `no list of ${slices.synced ? 'Pods' : 'EndpointSlices'} has come yet`;
    },
    routes: {
      ...status.routes,
      '/debug/streams': (_request, response) => {
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(streams.describe(), null, 2));
      },
    },
  });
  return {
    log,
    running: {
      listening: { grpc: grpc.address, metrics: metricsServer.address },
      close: async () => {
        await grpc.close();
        certificates?.close();
        await metricsServer.close();
        await status.close();
        publisher.close();
        await Promise.all([slices.close(), pods.close()]);
        await client.close();
      },
    },
  };
});
