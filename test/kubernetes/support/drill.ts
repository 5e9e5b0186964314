/** kura on a real control plane: our manifests, Pods as processes in a network of their own, and workloads whose tokens are bound to their Pods. */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { V1Pod } from '@kubernetes/client-node';
import type { ExecutionContext } from 'ava';
import { connectKubernetes } from '../../../services/shared/kubernetes.ts';
import { createLogger } from '../../../services/shared/log.ts';
import { waitFor } from '../../support/wait.ts';
import { type Cluster, openCluster, patchTypes } from '../contract/cluster.ts';
import { type Plane, startPlane } from '../plane/plane.ts';
import { createServiceClient, type Load, moved, placementAt, type ServiceClient, startLoad } from './client.ts';
import { createKubectl, type Kubectl } from './kubectl.ts';
import { type Kubelet, startKubelet } from './kubelet.ts';
import { type Kustomization, writeKustomization } from './kustomization.ts';
import { makeNetwork } from './network.ts';
import { makeWorkload, type Workload } from './workload.ts';

export const system = 'kura-system';

export type Placement = ReadonlyMap<string, string>;

export interface Drill {
  readonly plane: Plane;
  readonly cluster: Cluster;
  readonly kubectl: Kubectl;
  readonly kubelet: Kubelet;
  /** Of a workload in namespace vision. */
  readonly token: string;
  /** Keys that this workload may read and write. */
  readonly keys: readonly string[];
  /** What the workload sees of the Service `kura`. */
  readonly client: ServiceClient;
  /** A Pod of a training job, bound to a Node, and a token of its for kura. */
  workload(): Promise<Workload>;
  /** Of the Envoys that the Service `kura` has. */
  addresses(): readonly string[];
  /** Readers and a writer of the workload, until the test ends at the latest. */
  load(t: ExecutionContext): Load;
  /** The shard of each key, as soon as the Envoys agree and `condition` holds. */
  placed(what: string, condition: (placement: Placement) => boolean, keys?: readonly string[]): Promise<Placement>;
  /** Of every Pod of a part, by the label app.kubernetes.io/name. */
  podsOf(part: string): V1Pod[];
  /** Reports Pods as not ready, as the node lifecycle controller does when a kubelet has been silent for 40 s. */
  markNotReady(pods: readonly V1Pod[]): Promise<void>;
  /** Applies the manifests again, as an upgrade does. */
  apply(): Promise<string>;
  /** Resolves when every Pod of our manifests that should be there is there and ready, and the Service has every Envoy. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/** The base of k8s with `components` and a fixed number of Envoys. About 20 s. */
export async function startDrill({
  envoys = 2,
  prepare = () => Promise.resolve(),
  install,
  ...kustomization
}: Kustomization & {
  envoys?: number;
  /** Installs kura instead, from an empty cluster with Nodes: namespace, credential and policy included. */
  install?: (cluster: { readonly kubeconfig: string; readonly directory: string }) => Promise<void>;
  /** Makes what the manifests expect to be there. */
  prepare?: (cluster: Cluster, kubelet: Kubelet) => Promise<void>;
} = {}): Promise<Drill> {
  const directory = await mkdtemp(path.join(tmpdir(), 'kura-drill-'));
  const undo: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })];
  const stop = async (): Promise<void> => {
    const faults: unknown[] = [];
    for (const each of undo.reverse()) await each().catch((error: unknown) => faults.push(error));
    if (faults.length > 0) throw faults[0];
  };
  try {
    const parts = await startCluster(directory, undo, install === undefined);
    const { cluster, kubectl, kubelet } = parts;
    await prepare(cluster, kubelet);
    const replicas = [{ name: 'kura-envoy', count: envoys }];
    const folder = await writeKustomization(path.join(directory, 'overlay'), { replicas, namespace: system, ...kustomization });
    const apply = (): Promise<string> => kubectl.ok('apply', '--validate=strict', '-k', folder);
    if (install === undefined) await apply();
    else await install({ kubeconfig: parts.plane.kubeconfig, directory });
    const { token } = await makeWorkload(cluster);
    const keys = Array.from({ length: 400 }, (_, index) => `vision/drill/${index}`);
    const addresses = (): readonly string[] => kubelet.addresses('kura');
    const client = createServiceClient(addresses, 16);
    undo.push(() => Promise.resolve(client.close()));
    await settled(parts);
    return {
      ...parts,
      token,
      keys,
      client,
      workload: () => makeWorkload(cluster),
      addresses,
      load: (t) => {
        const load = startLoad({ addresses, token, keys });
        t.teardown(async () => void (await load.stop()));
        return load;
      },
      placed: (what, condition, asked = keys) => placed(what, { addresses, token, keys: asked }, condition),
      podsOf: (part) => kubelet.pods().filter(({ metadata }) => metadata?.labels?.['app.kubernetes.io/name'] === part),
      markNotReady: (pods) => markNotReady(cluster, pods),
      apply,
      settled: () => settled(parts),
      stop,
    };
  } catch (error) {
    // The first fault is the one to report.
    await stop().catch(() => undefined);
    throw error;
  }
}

type Parts = Pick<Drill, 'plane' | 'cluster' | 'kubectl' | 'kubelet'>;

/** A control plane with Nodes, a kubelet, our namespace, the shards' credential and the first policy; what ends each part goes to `undo` as it is there. */
async function startCluster(directory: string, undo: (() => Promise<unknown>)[], isPrepared: boolean): Promise<Parts> {
  const network = await makeNetwork();
  undo.push(() => network.close());
  const plane = await startPlane({
    directory: path.join(directory, 'plane'),
    address: network.address,
    disableAdmission: 'DefaultStorageClass',
  });
  undo.push(() => plane.stop());
  const restart = async (): Promise<void> => {
    await plane.signal('apiserver', 'SIGKILL');
    await plane.start('apiserver');
  };
  const cluster = await openCluster({ ...plane, bookmarkWithinMs: 90_000, restart });
  undo.push(() => cluster.close());
  const kubectl = createKubectl({ kubeconfig: plane.kubeconfig, cache: path.join(directory, 'kubectl') });
  await makeNodes(cluster);
  if (isPrepared) await prepareNamespace(kubectl);

  const client = connectKubernetes({ kubeconfig: plane.kubeconfig });
  undo.push(() => client.close());
  const state = path.join(directory, 'kubelet');
  await mkdir(state);
  const log = createLogger({ service: 'kubelet', level: 'silent' });
  const apiPort = Number(new URL(plane.url).port);
  const kubelet = await startKubelet({ cluster, client, namespace: system, directory: state, network, apiPort, log });
  undo.push(() => kubelet.close());
  return { plane, cluster, kubectl, kubelet };
}

async function prepareNamespace(kubectl: Kubectl): Promise<void> {
  await kubectl.ok('create', 'namespace', system);
  const credential = randomBytes(32).toString('hex');
  await kubectl.ok('-n', system, 'create', 'secret', 'generic', 'kura-credential', `--from-literal=keys=${credential}`);
  await kubectl.ok('-n', system, 'create', 'configmap', 'kura-policy', '--from-file=policy.yaml=k8s/base/policy.yaml');
}

async function makeNodes(cluster: Cluster): Promise<void> {
  for (const name of ['node-a', 'node-b', 'node-c']) {
    const labels = { 'topology.kubernetes.io/zone': name.replace('node', 'zone'), 'kubernetes.io/hostname': name };
    await cluster.ok('POST', '/api/v1/nodes', { body: { metadata: { name, labels } } });
    const conditions = [{ type: 'Ready', status: 'True' }];
    await cluster.ok('PATCH', `/api/v1/nodes/${name}/status`, {
      body: { status: { conditions } },
      headers: { 'content-type': 'application/merge-patch+json' },
    });
  }
}

async function markNotReady(cluster: Cluster, pods: readonly V1Pod[]): Promise<void> {
  const call = {
    body: { status: { conditions: [{ type: 'Ready', status: 'False' }] } },
    headers: { 'content-type': patchTypes.strategic },
  };
  for (const { metadata } of pods) await cluster.ok('PATCH', `/api/v1/namespaces/${system}/pods/${metadata?.name}/status`, call);
}

/** Twice in a row, so that no Envoy is on its way from one table to the next. */
async function placed(
  what: string,
  { addresses, token, keys }: { addresses: () => readonly string[]; token: string; keys: readonly string[] },
  condition: (placement: Placement) => boolean,
): Promise<Placement> {
  let last: Placement | undefined;
  return await waitFor(
    what,
    async () => {
      const before = last;
      const [first, ...others] = await Promise.all(addresses().map((address) => placementAt(address, token, keys)));
      last = first !== undefined && others.every((other) => moved(first, other) === 0) ? first : undefined;
      return last !== undefined && before !== undefined && moved(before, last) === 0 && condition(last) && last;
    },
    { withinMs: 90_000, everyMs: 50 },
  );
}

async function settled({ kubelet, kubectl }: Pick<Drill, 'kubelet' | 'kubectl'>): Promise<void> {
  interface Workloads {
    items: { metadata: { name: string; generation: number }; spec: { replicas?: number }; status: Record<string, number> }[];
  }
  await waitFor(
    'every Pod is ready',
    async () => {
      if (kubelet.faults.length > 0) throw new Error(kubelet.faults.join('\n'));
      const { items } = await kubectl.json<Workloads>('-n', system, 'get', 'statefulsets,deployments,daemonsets');
      const areReady = items.every(({ metadata, spec: { replicas }, status }) => {
        const wanted = replicas ?? status.desiredNumberScheduled;
        return (
          status.observedGeneration === metadata.generation &&
          (status.replicas ?? status.currentNumberScheduled) === wanted &&
          (status.readyReplicas ?? status.numberReady) === wanted &&
          (status.updatedReplicas ?? status.updatedNumberScheduled) === wanted
        );
      });
      // The EndpointSlices follow the Pods a moment later.
      const envoys = items.find(({ metadata }) => metadata.name === 'kura-envoy')?.spec.replicas;
      return areReady && kubelet.addresses('kura').length === envoys;
    },
    { withinMs: 120_000, everyMs: 250 },
  ).catch(async (error: Error) => {
    throw new Error(`${error.message}\n${await kubelet.describe()}`, { cause: error });
  });
}

export function secondsSince(startedAt: number): string {
  return `${((performance.now() - startedAt) / 1000).toFixed(1)} s`;
}
