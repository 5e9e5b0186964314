/** Scheduler and kubelet of all Nodes in one: binds Pods, runs those of our namespace as processes and tells the API how they are. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { V1EndpointSlice, V1Node, V1Pod } from '@kubernetes/client-node';
import type { KubernetesClient } from '../../../services/shared/kubernetes.ts';
import type { Logger } from '../../../services/shared/log.ts';
import { Reflector } from '../../../services/shared/reflector.ts';
import { waitFor } from '../../support/wait.ts';
import type { Cluster } from '../contract/cluster.ts';
import { resolvConf, startDns } from './dns.ts';
import type { Network } from './network.ts';
import { nodeFolder, PodRunner } from './pod-runner.ts';

interface KubeletOptions {
  readonly cluster: Cluster;
  readonly client: KubernetesClient;
  readonly namespace: string;
  readonly directory: string;
  readonly network: Network;
  /** Where Pods find the API, at the network's address. */
  readonly apiPort: number;
  readonly log: Logger;
}

export interface Kubelet {
  readonly pods: () => V1Pod[];
  /** Throws for a Pod that does not run here. */
  runner(name: string): PodRunner;
  /** The addresses that kube-proxy would choose from. */
  addresses(service: string): readonly string[];
  /** From now on no Node takes a Pod of this name, as for one whose volume is lost. */
  keepPending(name: string): void;
  /** Cuts a Node off, its kubelet included, or brings it back. */
  setNodeLost(node: string, isLost: boolean): Promise<void>;
  /** The root folder of a Node, for volumes of the kind hostPath. */
  nodeFolder(node: string): string;
  /** Brings changed ConfigMaps and Secrets to every Pod, as a kubelet does every minute or so. */
  refreshVolumes(): Promise<void>;
  /** What the containers of that name have printed, Pod by Pod, by the label app.kubernetes.io/name. */
  logs(part: string, container: string): Promise<string>[];
  /** Of each container of Pods that are not ready, the end of what it printed: for the message of a test that waited for them in vain. */
  describe(): Promise<string>;
  /** What went wrong, Pod by Pod; a test that expects nothing of the kind looks here. */
  readonly faults: readonly string[];
  close(): Promise<void>;
}

export async function startKubelet({ cluster, client, namespace, directory, network, apiPort, log }: KubeletOptions): Promise<Kubelet> {
  const runners = new Map<string, PodRunner>();
  const ending = new Map<string, Promise<void>>();
  /** The Node of each Pod that was bound here: what the copies do not know yet. */
  const bound = new Map<string, string>();
  const neverBound = new Set<string>();
  const faults: string[] = [];
  let isClosing = false;
  const resolvConfFile = path.join(directory, 'resolv.conf');
  await writeFile(resolvConfFile, resolvConf({ server: network.address, namespace }));
  const given = { KUBERNETES_SERVICE_HOST: network.address, KUBERNETES_SERVICE_PORT: String(apiPort) };
  const noted = (pod: V1Pod) => (error: Error) => void faults.push(`${pod.metadata?.name}: ${error.message}`);

  const slices = new Reflector<V1EndpointSlice>({
    client,
    path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
    log,
  });
  const nodes = new Reflector<V1Node>({ client, path: '/api/v1/nodes', log });
  await waitFor('the Nodes', () => nodes.synced);
  const closeDns = await startDns({ address: network.address, namespace, addresses });
  const pods = new Reflector<V1Pod>({
    client,
    path: `/api/v1/namespaces/${namespace}/pods`,
    log,
    onChange: ({ type, object }) => {
      if (type === 'deleted') void end(object, 0);
      else sync(object);
    },
  });
  return {
    pods: () => [...pods.objects()],
    runner: (name) => {
      const runner = runners.get(pods.get(`${namespace}/${name}`)?.metadata?.uid ?? '');
      if (runner === undefined) throw new Error(`${name} does not run`);
      return runner;
    },
    addresses,
    keepPending: (name) => void neverBound.add(name),
    setNodeLost: async (node, isLost) => {
      const own = [...pods.objects()].filter(({ spec }) => spec?.nodeName === node);
      await Promise.all(own.map(({ metadata }) => runners.get(metadata?.uid ?? '')?.setLost(isLost)));
    },
    nodeFolder: (node) => nodeFolder(directory, node),
    refreshVolumes: async () => {
      await Promise.all([...runners.values()].map(({ volumes }) => volumes.refresh()));
    },
    logs: (part, container) =>
      [...pods.objects()]
        .filter(({ metadata }) => metadata?.labels?.['app.kubernetes.io/name'] === part)
        .map(({ metadata }) => readFile(path.join(directory, 'logs', `${metadata?.name}.${container}.log`), 'utf8')),
    describe,
    faults,
    close: async () => {
      isClosing = true;
      await Promise.all([pods.close(), slices.close(), nodes.close()]);
      await Promise.all([...runners.values()].map((runner) => runner.terminate(0)));
      await Promise.all(ending.values());
      await closeDns();
    },
  };

  async function describe(): Promise<string> {
    const unready = [...pods.objects()].filter(({ metadata }) => runners.get(metadata?.uid ?? '')?.isReady !== true);
    const parts = unready.flatMap(({ metadata, spec }) =>
      [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])].map(async ({ name }) => {
        const text = await readFile(path.join(directory, 'logs', `${metadata?.name}.${name}.log`), 'utf8').catch(() => 'not started');
        return `${metadata?.name} ${name}: ${text.slice(-800)}`;
      }),
    );
    return [...faults, ...(await Promise.all(parts))].join('\n');
  }

  function sync(pod: V1Pod): void {
    const { uid = '', deletionTimestamp, deletionGracePeriodSeconds } = pod.metadata ?? {};
    if (deletionTimestamp !== undefined) void end(pod, deletionGracePeriodSeconds ?? 0);
    else if (pod.spec?.nodeName === undefined) schedule(pod).catch(noted(pod));
    else if (!runners.has(uid)) {
      const runner = new PodRunner({ pod, cluster, network, directory, resolvConfFile, given });
      runners.set(uid, runner);
      runner.started.catch(noted(pod));
    }
  }

  /** Once for each Pod; one that goes away altogether is killed at once. */
  async function end(pod: V1Pod, graceSeconds: number): Promise<void> {
    const uid = pod.metadata?.uid ?? '';
    const runner = runners.get(uid);
    if (graceSeconds === 0 || !ending.has(uid)) ending.set(uid, terminate(pod, runner, graceSeconds).catch(noted(pod)));
    await ending.get(uid);
    runners.delete(uid);
    ending.delete(uid);
  }

  async function terminate({ metadata }: V1Pod, runner: PodRunner | undefined, graceSeconds: number): Promise<void> {
    await runner?.started.catch(() => undefined);
    await runner?.terminate(graceSeconds);
    await waitFor(
      `the end of ${metadata?.name} is known`,
      async () => {
        if (isClosing) return true;
        const body = { gracePeriodSeconds: 0, preconditions: { uid: metadata?.uid } };
        const { status } = await cluster.call('DELETE', `/api/v1/namespaces/${namespace}/pods/${metadata?.name}`, { body });
        return [200, 404, 409].includes(status);
      },
      { withinMs: 180_000, everyMs: 100 },
    );
  }

  /** Onto the Node that its DaemonSet names, or the open Node with the fewest Pods of the same kind. */
  async function schedule(pod: V1Pod): Promise<void> {
    const { name = '', uid = '' } = pod.metadata ?? {};
    if (bound.has(uid) || neverBound.has(name)) return;
    const kindOf = ({ metadata }: V1Pod): string => metadata?.labels?.['app.kubernetes.io/name'] ?? '';
    const kin = [...pods.objects()].filter((each) => kindOf(each) === kindOf(pod));
    const count = (node: string): number => kin.filter(({ metadata }) => bound.get(metadata?.uid ?? '') === node).length;
    const open = [...nodes.objects()].filter(({ spec }) => spec?.unschedulable !== true).map(({ metadata }) => metadata?.name as string);
    const node = ownNodeOf(pod) ?? (open.sort((a, b) => count(a) - count(b))[0] as string);
    bound.set(uid, node);
    const target = { apiVersion: 'v1', kind: 'Node', name: node };
    await cluster.ok('POST', `/api/v1/namespaces/${namespace}/pods/${name}/binding`, { body: { metadata: { name, uid }, target } });
  }

  function addresses(service: string): readonly string[] {
    const own = [...slices.objects()].filter(({ metadata }) => metadata?.labels?.['kubernetes.io/service-name'] === service);
    const endpoints = own.flatMap((slice) => slice.endpoints ?? []).filter(({ conditions }) => conditions?.ready === true);
    return endpoints.flatMap((endpoint) => endpoint.addresses);
  }
}

/** Of a Pod of a DaemonSet. */
function ownNodeOf({ spec }: V1Pod): string | undefined {
  const [term] = spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  return term?.matchFields?.find(({ key }) => key === 'metadata.name')?.values?.[0];
}
