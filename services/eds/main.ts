/** eds: sends every Envoy the list of shards. */
import type { KubernetesObject, V1EndpointSlice } from '@kubernetes/client-node';
import { loadEnvoyProtos } from '../../proto/load.ts';
import { type Closer, startWithCloser } from '../shared/closer.ts';
import { readSettings, type Settings } from '../shared/environment.ts';
import { connectKubernetes, type KubernetesClient } from '../shared/kubernetes.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger, type Logger } from '../shared/log.ts';
import { createRegistry, type Route, startMetricsServer } from '../shared/metrics.ts';
import { Reflector } from '../shared/reflector.ts';
import { readSlices } from '../shared/shard-endpoints.ts';
import { openCertificates } from './certificates.ts';
import { settings } from './config.ts';
import { createEncoder, type Encoder, endpointType } from './encoding.ts';
import { createMetrics, createPropagation } from './metrics.ts';
import { Publisher } from './publisher.ts';
import { type DiscoveryServer, startDiscoveryServer } from './server.ts';
import { StateFile } from './state-file.ts';
import { StreamList, type StreamView } from './stream-list.ts';

/** An API that is there lists within this time. After it, eds serves the saved assignment. */
const firstListMs = 1_000;
/**
 * Envoys check the health every 30 s. Without a current list, streams end this often: an Envoy then uses a healthy replica, if there is
 * one. Otherwise it may connect here again, has the version already and gets nothing.
 */
const maxEndEveryMs = 60_000;
/** Far below the interval at which Envoys check it. */
const healthMs = 1_000;

await runService('eds', async () => {
  const config = readSettings('KURA_EDS_', settings, process.env);
  const log = createLogger({ service: 'eds', level: config.logLevel });
  return { log, running: await startWithCloser((closer) => start(config, log, closer)) };
});

async function start(config: Settings<typeof settings>, log: Logger, closer: Closer): Promise<Record<string, string>> {
  const client = connectKubernetes({ kubeconfig: config.kubeconfig });
  closer.add('Kubernetes client', () => client.close());
  const certificates = config.tlsDirectory === undefined ? undefined : await openCertificates(config.tlsDirectory, { log });
  closer.add('certificates', () => certificates?.close());
  const protos = loadEnvoyProtos().envoy;
  const encoder = createEncoder(protos);
  const { publisher, slices, pods } = publish(config, { client, encoder, log, closer });
  const registry = createRegistry();
  const propagation = createPropagation(registry);
  const streams = new StreamList({ onLast: (seconds) => propagation.observe(seconds) });
  const lastContact = (): number | undefined =>
    slices.lastContact === undefined || pods.lastContact === undefined ? undefined : Math.min(slices.lastContact, pods.lastContact);
  const metrics = createMetrics({ registry, publisher, streams, lastContact });
  const { maxStreams, maxStreamsPerPeer } = config;
  const context = { publisher, encoder, streams, maxStreams, maxStreamsPerPeer, metrics, log };
  const grpc = await startDiscoveryServer(protos, context, { target: config.listen, credentials: certificates?.credentials });
  closer.add('gRPC server', () => grpc.close());
  const updateHealth = createHealth({
    isReady: () => publisher.isReady,
    isCurrent: () => !publisher.isStale && Date.now() - (lastContact() ?? 0) < config.apiSilence,
    endEveryMs: Math.min(config.apiSilence, maxEndEveryMs),
    grpc,
    streams,
    log,
  });
  publisher.onPublish(updateHealth);
  const healthTimer = setInterval(updateHealth, healthMs);
  closer.add('health', () => clearInterval(healthTimer));
  const metricsServer = await startMetricsServer({
    address: config.metricsListen,
    registry,
    notReady: () => {
      if (publisher.isReady) return undefined;
      if (publisher.isWaiting) return 'the first list has too few healthy shards; waiting for more';
      return `the first list of ${slices.synced ? 'Pods' : 'EndpointSlices'} has not arrived yet`;
    },
    routes: debugPages(config, { publisher, streams }),
  });
  closer.add('metrics server', () => metricsServer.close());
  return { grpc: grpc.address, metrics: metricsServer.address };
}

function debugPages(
  { service, identity, placement }: Settings<typeof settings>,
  { publisher, streams }: { publisher: Publisher; streams: StreamList },
): Record<string, Route> {
  const versionFor = (zone: string): string | undefined => publisher.snapshot(zone)?.version;
  // A client that reconnects reports the version that it has. It gets no response then, and acknowledges nothing.
  const isCurrent = ({ zone, subscriptions }: StreamView): boolean => {
    const version = versionFor(zone);
    const subscription = subscriptions.get(endpointType)?.subscription;
    return version !== undefined && (subscription?.acknowledged ?? subscription?.broughtVersion(service)) === version;
  };
  const json =
    (read: () => unknown): Route =>
    (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(read(), null, 2));
    };
  return {
    '/debug/streams': json(() => streams.describe(isCurrent)),
    '/debug/assignment': json(() => ({
      service,
      identity,
      placement,
      version: versionFor(''),
      isStale: publisher.isStale,
      held: publisher.held,
      refused: publisher.refused,
    })),
  };
}

/** The publisher and the two watches that it reads. */
function publish(
  { namespace, service, placement, identity, podSelector, ...config }: Settings<typeof settings>,
  { client, encoder, log, closer }: { client: KubernetesClient; encoder: Encoder; log: Logger; closer: Closer },
): { publisher: Publisher; slices: Reflector<V1EndpointSlice>; pods: Reflector<KubernetesObject> } {
  const state = config.stateFile === undefined ? undefined : new StateFile({ file: config.stateFile, service, log });
  closer.add('state file', () => state?.close());
  const publisher = new Publisher({
    name: service,
    base: state?.read(),
    placement,
    read: () => readSlices(slices.objects(), { identity, podOf: (name) => pods.get(`${namespace}/${name}`)?.metadata }),
    encoder,
    limits: {
      unhealthyMs: config.unhealthy,
      lossDelayMs: config.lossDelay,
      collapseShare: config.collapsePercent / 100,
      collapseHoldMs: config.collapseHold,
      returnWaitMs: config.returnWait,
    },
    debounceMs: config.debounce,
    maxDebounceMs: config.debounceLimit,
    log,
  });
  publisher.onPublish(() => state?.save(publisher.shards));
  const baseTimer = setTimeout(() => publisher.publishBase(), firstListMs);
  closer.add('publisher', () => {
    clearTimeout(baseTimer);
    publisher.close();
  });
  // Waits for both lists: weights that arrive later would move keys. All changes until then count as one.
  const touch = (): void => {
    if (slices.synced && pods.synced) publisher.touch();
  };
  const slices: Reflector<V1EndpointSlice> = new Reflector<V1EndpointSlice>({
    client,
    path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
    labelSelector: `kubernetes.io/service-name=${service}`,
    onChange: touch,
    onSynced: touch,
    log,
  });
  closer.add('EndpointSlices', () => slices.close());
  const pods: Reflector<KubernetesObject> = new Reflector<KubernetesObject>({
    client,
    path: `/api/v1/namespaces/${namespace}/pods`,
    ...(podSelector === undefined ? {} : { labelSelector: podSelector }),
    metadataOnly: true,
    onChange: touch,
    onSynced: touch,
    log,
  });
  closer.add('Pods', () => pods.close());
  return { publisher, slices, pods };
}

/** Returns the function that updates the gRPC health, and ends the streams from time to time while the list is not current. */
function createHealth({
  isReady,
  isCurrent,
  endEveryMs,
  grpc,
  streams,
  log,
}: {
  isReady: () => boolean;
  isCurrent: () => boolean;
  endEveryMs: number;
  grpc: DiscoveryServer;
  streams: StreamList;
  log: Logger;
}): () => void {
  let endAt: number | undefined;
  return () => {
    const now = performance.now();
    grpc.setServing(isReady() && isCurrent());
    if (isCurrent()) endAt = undefined;
    else endAt ??= now + endEveryMs;
    if (endAt === undefined || now < endAt) return;
    endAt = now + endEveryMs;
    if (streams.size > 0)
      log.warn({ streams: streams.size }, 'no current list; ending the streams, so that Envoys can use another replica');
    streams.endAll();
  };
}
