/**
 * The objects in the fake Kubernetes API of a local system: namespaces, workloads with their Pods, and the Pods and EndpointSlices of
 * the shards. In a real cluster, controllers maintain them.
 */
import { ApiException, CoreV1Api, DiscoveryV1Api, type V1EndpointSlice, type V1Pod } from '@kubernetes/client-node';
import type { KubernetesClient } from '../shared/kubernetes.ts';

const systemNamespace = 'kura-system';
const cacheService = 'kura-cache';
const nodeName = 'local';
export const zone = 'local';
const shardPort = 'shard-0';
/** Each shard has any free metrics port, so the EndpointSlice must contain it. */
const shardMetricsPort = 'metrics-0';

const workloadNamespaces = ['vision', 'nlp'];
const workloadServiceAccounts = ['trainer', 'eval'];

/** A workload that exists from the start. Each ServiceAccount has one Pod with the same name. */
export interface Workload {
  readonly namespace: string;
  readonly serviceAccount: string;
}

export const workloads: readonly Workload[] = workloadNamespaces.flatMap((namespace) =>
  workloadServiceAccounts.map((serviceAccount) => ({ namespace, serviceAccount })),
);

export interface ShardEndpoint {
  /** `kura-cache-<i>`; each Pod runs one shard. */
  readonly pod: string;
  /** Undefined while the shard does not serve. */
  readonly port: number | undefined;
  readonly metricsPort: number | undefined;
}

/** Creates the initial objects. Existing objects are kept, so that the tokens bound to them stay valid. */
export async function createCluster(client: KubernetesClient): Promise<void> {
  const core = client.api(CoreV1Api);
  await createIfAbsent(core.createNode({ body: { metadata: { name: nodeName, labels: { 'topology.kubernetes.io/zone': zone } } } }));
  for (const name of [systemNamespace, ...workloadNamespaces]) await createIfAbsent(core.createNamespace({ body: { metadata: { name } } }));
  for (const { namespace, serviceAccount } of workloads) {
    await createIfAbsent(core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: serviceAccount } } }));
    await createIfAbsent(core.createNamespacedPod({ namespace, body: pod({ name: serviceAccount, serviceAccount }) }));
  }
  await createIfAbsent(
    core.createNamespacedService({
      namespace: systemNamespace,
      body: { metadata: { name: cacheService }, spec: { clusterIP: 'None', ports: [{ name: shardPort, port: 7000 }] } },
    }),
  );
}

/** Writes the shard's address and readiness to its Pod and EndpointSlice. */
export async function publishShard(client: KubernetesClient, endpoint: ShardEndpoint): Promise<void> {
  const core = client.api(CoreV1Api);
  const discovery = client.api(DiscoveryV1Api);
  const namespace = systemNamespace;
  await createIfAbsent(core.createNamespacedPod({ namespace, body: cachePod(endpoint.pod) }));
  const { metadata } = await core.readNamespacedPod({ namespace, name: endpoint.pod });
  const body = endpointSlice(endpoint, metadata?.uid);
  const isNew = await createIfAbsent(discovery.createNamespacedEndpointSlice({ namespace, body }));
  if (!isNew) await discovery.replaceNamespacedEndpointSlice({ namespace, name: endpoint.pod, body });
}

/** A part of the system besides the shards. */
export interface PartEndpoint {
  /** Name of the part, such as `kura-eds`. */
  readonly part: string;
  /** Name of the port in the manifests. */
  readonly portName: 'metrics' | 'authz-metrics';
  readonly port: number;
}

/** Writes the part's Pod, so that the console finds its metrics. */
export async function publishPart(client: KubernetesClient, { part, portName, port }: PartEndpoint): Promise<void> {
  const core = client.api(CoreV1Api);
  const [namespace, name] = [systemNamespace, `${part}-0`];
  const containers = [{ name: 'main', image: 'local', ports: [{ name: portName, containerPort: port }] }];
  const body: V1Pod = {
    metadata: { name, labels: { 'app.kubernetes.io/name': part } },
    spec: { nodeName, serviceAccountName: 'default', containers },
    status: { phase: 'Running', podIP: '127.0.0.1' },
  };
  const isNew = await createIfAbsent(core.createNamespacedPod({ namespace, body }));
  if (!isNew) await core.replaceNamespacedPod({ namespace, name, body });
  await core.replaceNamespacedPodStatus({ namespace, name, body });
}

/** Deletes the EndpointSlices of shards that are no longer part of the system. */
export async function removeOtherShards(client: KubernetesClient, kept: ReadonlySet<string>): Promise<void> {
  const namespace = systemNamespace;
  const discovery = client.api(DiscoveryV1Api);
  const slices = await discovery.listNamespacedEndpointSlice({ namespace, labelSelector: `kubernetes.io/service-name=${cacheService}` });
  for (const { metadata } of slices.items) {
    if (metadata?.name !== undefined && !kept.has(metadata.name))
      await discovery.deleteNamespacedEndpointSlice({ namespace, name: metadata.name });
  }
}

/** Creates or replaces a ConfigMap, with exactly `data`. */
export async function publishConfigMap(
  client: KubernetesClient,
  { name, data }: { name: string; data: Record<string, string> },
): Promise<void> {
  const core = client.api(CoreV1Api);
  const body = { metadata: { name }, data };
  const isNew = await createIfAbsent(core.createNamespacedConfigMap({ namespace: systemNamespace, body }));
  if (!isNew) await core.replaceNamespacedConfigMap({ namespace: systemNamespace, name, body });
}

/** Requests a token that is bound to the workload's Pod. Rejects if the Pod does not exist or the API is unreachable. */
export async function requestToken(
  client: KubernetesClient,
  { namespace, serviceAccount, audience, seconds }: Workload & { audience: string; seconds: number },
): Promise<{ token: string; expiresAt: Date }> {
  const core = client.api(CoreV1Api);
  const { metadata } = await core.readNamespacedPod({ namespace, name: serviceAccount });
  const { status } = await core.createNamespacedServiceAccountToken({
    namespace,
    name: serviceAccount,
    body: {
      spec: {
        audiences: [audience],
        expirationSeconds: seconds,
        boundObjectRef: {
          apiVersion: 'v1',
          kind: 'Pod',
          name: serviceAccount,
          ...(metadata?.uid === undefined ? {} : { uid: metadata.uid }),
        },
      },
    },
  });
  if (status?.token === undefined || status.expirationTimestamp === undefined)
    throw new Error('the API returned no token for a TokenRequest');
  return { token: status.token, expiresAt: status.expirationTimestamp };
}

/** Creates an object unless it exists. Returns whether it was created. */
async function createIfAbsent(creation: Promise<unknown>): Promise<boolean> {
  try {
    await creation;
    return true;
  } catch (error) {
    if (error instanceof ApiException && error.code === 409) return false;
    throw error;
  }
}

/** With the label by which the console finds the Pods of shards. */
function cachePod(name: string): V1Pod {
  const { metadata, spec } = pod({ name, serviceAccount: 'default' });
  return { metadata: { ...metadata, labels: { 'app.kubernetes.io/name': cacheService } }, spec } as V1Pod;
}

function pod({ name, serviceAccount }: { name: string; serviceAccount: string }): V1Pod {
  return { metadata: { name }, spec: { nodeName, serviceAccountName: serviceAccount, containers: [{ name: 'main', image: 'local' }] } };
}

function endpointSlice({ pod: name, port, metricsPort }: ShardEndpoint, podUid: string | undefined): V1EndpointSlice {
  const serves = port !== undefined;
  return {
    metadata: { name, labels: { 'kubernetes.io/service-name': cacheService } },
    addressType: 'IPv4',
    endpoints: [
      {
        addresses: ['127.0.0.1'],
        conditions: { ready: serves, serving: serves, terminating: false },
        hostname: name,
        nodeName,
        zone,
        targetRef: { kind: 'Pod', namespace: systemNamespace, name, ...(podUid === undefined ? {} : { uid: podUid }) },
      },
    ],
    ports: [
      { name: shardPort, port: port ?? 7000, protocol: 'TCP' },
      { name: shardMetricsPort, port: metricsPort ?? 7100, protocol: 'TCP' },
    ],
  };
}
