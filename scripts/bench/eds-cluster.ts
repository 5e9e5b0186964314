/** The cluster of bench:eds: a fake Kubernetes API with the requested number of shards, and eds on one core. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CoreV1Api, DiscoveryV1Api, type V1Endpoint } from '@kubernetes/client-node';
import { connectKubernetes } from '../../services/shared/kubernetes.ts';
import type { ListeningMessage } from '../../services/shared/lifecycle.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const namespace = 'kura-system';
const perSlice = 100;

/** Starts the fake cluster and eds. The endpoints are in slices of 100, as in Kubernetes. */
export interface Cluster {
  /** Writes the slices of these shards. */
  put(shards: readonly number[]): Promise<void>;
  readonly endpoints: V1Endpoint[];
  readonly kubeconfig: string;
  readonly eds: { pid: number; listening: Readonly<Record<string, string>> };
  close(): Promise<void>;
}

export async function startCluster(count: number, address: (index: number) => string, port: number): Promise<Cluster> {
  const directory = await mkdtemp(path.join(tmpdir(), 'kura-bench-'));
  const api = await startService(['fake-kubernetes'], { KURA_KUBERNETES_LISTEN: '127.0.0.1:0', KURA_KUBERNETES_DIRECTORY: directory });
  const kubeconfig = path.join(directory, 'admin.kubeconfig');
  const client = connectKubernetes({ kubeconfig });
  await client.api(CoreV1Api).createNamespace({ body: { metadata: { name: namespace } } });
  const discovery = client.api(DiscoveryV1Api);
  const endpoints = Array.from(
    { length: count },
    (_, index): V1Endpoint => ({
      addresses: [address(index)],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${index}`,
      zone: `zone-${index % 3}`,
      targetRef: { kind: 'Pod', namespace, name: `kura-cache-${index}`, uid: `uid-${index}` },
    }),
  );
  const body = (slice: number) => ({
    metadata: { name: `kura-cache-${slice}`, labels: { 'kubernetes.io/service-name': 'kura-cache' } },
    addressType: 'IPv4',
    endpoints: endpoints.slice(slice * perSlice, (slice + 1) * perSlice),
    ports: [{ name: 'shard-0', port, protocol: 'TCP' }],
  });
  for (let slice = 0; slice * perSlice < count; slice++) await discovery.createNamespacedEndpointSlice({ namespace, body: body(slice) });
  const eds = await startService(['eds'], {
    KURA_EDS_LISTEN: '127.0.0.1:0',
    KURA_EDS_METRICS_LISTEN: '127.0.0.1:0',
    KURA_EDS_KUBECONFIG: kubeconfig,
    KURA_EDS_LOG_LEVEL: 'error',
    // All streams come from this machine.
    KURA_EDS_MAX_STREAMS_PER_PEER: '10000',
  });
  return {
    endpoints,
    kubeconfig,
    eds,
    put: async (shards) => {
      for (const slice of new Set(shards.map((index) => Math.floor(index / perSlice)))) {
        await discovery.replaceNamespacedEndpointSlice({ namespace, name: `kura-cache-${slice}`, body: body(slice) });
      }
    },
    close: async () => {
      await client.close();
      eds.stop();
      api.stop();
      await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}

/** eds runs only on the first core. */
async function startService(folder: readonly string[], environment: Record<string, string>): Promise<Cluster['eds'] & { stop(): void }> {
  const main = path.join(root, 'services', ...folder, 'main.ts');
  const words = folder[0] === 'eds' ? ['taskset', '-c', '0', process.execPath, main] : [process.execPath, main];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...words], {
    env: { PATH: process.env.PATH, ...environment },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`${folder.join('/')} has ended`)));
  const [message] = (await Promise.race([once(child, 'message'), ended])) as [ListeningMessage];
  ended.catch(() => undefined);
  return { pid: child.pid as number, listening: message.listening, stop: () => child.kill('SIGKILL') };
}

/** CPU time and memory, from /proc. */
export async function readProcess(pid: number): Promise<{ cpuMs: number; rssMiB: number; peakMiB: number }> {
  const [stat, status] = await Promise.all([readFile(`/proc/${pid}/stat`, 'utf8'), readFile(`/proc/${pid}/status`, 'utf8')]);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const size = (name: string): number => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1_024);
  // Linux counts processor time in hundredths of a second.
  return { cpuMs: (Number(fields[11]) + Number(fields[12])) * 10, rssMiB: size('VmRSS'), peakMiB: size('VmHWM') };
}
