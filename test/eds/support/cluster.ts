/** A fake cluster in which the test adds and removes cache Pods, with eds as a process. */
import path from 'node:path';
import { ApiException, CoreV1Api, DiscoveryV1Api } from '@kubernetes/client-node';
import type { ExecutionContext } from 'ava';
import { connectKubernetes } from '../../../services/shared/kubernetes.ts';
import { type Service, startService, temporaryFolder } from '../../support/service.ts';

const namespace = 'kura-system';

export interface CachePod {
  readonly name: string;
  readonly address: string;
  /** 7000 without it. */
  readonly port?: number;
  readonly zone?: string;
  readonly weight?: number;
  readonly conditions?: { readonly ready: boolean; readonly serving: boolean; readonly terminating: boolean };
}

interface TestCluster {
  /** Makes these the cache Pods, each with a slice of its own; what is the same already is left alone. */
  set(pods: readonly CachePod[]): Promise<void>;
  startEds(settings?: Readonly<Record<string, string>>): Promise<Service>;
  /** The process of the API. */
  readonly api: Service;
}

export async function startCluster(t: ExecutionContext): Promise<TestCluster> {
  const directory = await temporaryFolder(t);
  const api = await startService('fake-kubernetes', { KURA_KUBERNETES_LISTEN: '127.0.0.1:0', KURA_KUBERNETES_DIRECTORY: directory });
  const kubeconfig = path.join(directory, 'admin.kubeconfig');
  const client = connectKubernetes({ kubeconfig });
  t.teardown(async () => {
    await client.close();
    await api.stop('SIGKILL');
  });
  const core = client.api(CoreV1Api);
  const discovery = client.api(DiscoveryV1Api);
  await core.createNamespace({ body: { metadata: { name: namespace } } });
  const present = new Map<string, CachePod>();

  const remove = async (name: string): Promise<void> => {
    await discovery.deleteNamespacedEndpointSlice({ namespace, name });
    await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 });
    present.delete(name);
  };
  const put = async (pod: CachePod): Promise<void> => {
    const { name } = pod;
    await unlessThere(
      core.createNamespacedPod({
        namespace,
        body: {
          metadata: { name, annotations: pod.weight === undefined ? {} : { 'kura/weight': String(pod.weight) } },
          spec: { nodeName: `node-of-${name}`, serviceAccountName: 'default', containers: [{ name: 'cache', image: 'none' }] },
        },
      }),
    );
    const { metadata } = await core.readNamespacedPod({ namespace, name });
    const body = {
      metadata: { name, labels: { 'kubernetes.io/service-name': 'kura-cache' } },
      addressType: 'IPv4',
      endpoints: [
        {
          addresses: [pod.address],
          conditions: { ...(pod.conditions ?? { ready: true, serving: true, terminating: false }) },
          nodeName: `node-of-${name}`,
          zone: pod.zone ?? 'a',
          targetRef: { kind: 'Pod', namespace, name, ...(metadata?.uid === undefined ? {} : { uid: metadata.uid }) },
        },
      ],
      ports: [{ name: 'shard-0', port: pod.port ?? 7000, protocol: 'TCP' }],
    };
    const isNew = await unlessThere(discovery.createNamespacedEndpointSlice({ namespace, body }));
    if (!isNew) await discovery.replaceNamespacedEndpointSlice({ namespace, name, body });
    present.set(name, pod);
  };
  return {
    api,
    set: async (pods) => {
      const wanted = new Set(pods.map(({ name }) => name));
      for (const name of [...present.keys()]) if (!wanted.has(name)) await remove(name);
      for (const pod of pods) if (JSON.stringify(present.get(pod.name)) !== JSON.stringify(pod)) await put(pod);
    },
    startEds: async (settings = {}) => {
      const service = await startService('eds', {
        KURA_EDS_LISTEN: '127.0.0.1:0',
        KURA_EDS_METRICS_LISTEN: '127.0.0.1:0',
        KURA_EDS_KUBECONFIG: kubeconfig,
        ...settings,
      });
      t.teardown(() => service.stop('SIGKILL'));
      return service;
    },
  };
}

async function unlessThere(creation: Promise<unknown>): Promise<boolean> {
  try {
    await creation;
    return true;
  } catch (error) {
    if (error instanceof ApiException && error.code === 409) return false;
    throw error;
  }
}
