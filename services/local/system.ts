/** The whole of kura on one machine: a stand-in Kubernetes API, shards, eds, authz and Envoy, each a process of its own. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connectKubernetes } from '../shared/kubernetes.ts';
import { localBootstrap } from './bootstrap.ts';
import { createCluster, publishShard, removeOtherShards, type ShardEndpoint, workloads, zone } from './cluster.ts';
import type { Console } from './console.ts';
import { freePorts, requireFree } from './free-ports.ts';
import { publishLatest } from './latest.ts';
import { type LocalFile, removeLocalFile, writeLocalFile } from './local-file.ts';
import { followPolicyFile } from './policy-file.ts';
import { type ProcessOptions, type SupervisedProcess, superviseProcess } from './process.ts';
import { lockState } from './state-lock.ts';
import { keepTokenFiles } from './token-files.ts';

export interface SystemOptions {
  /** Where everything is kept: objects, keys, tokens, sockets. */
  readonly stateDirectory: string;
  /** Envoy's port for clients; 0 = any free one. */
  readonly port: number;
  readonly shards: number;
  readonly shardBytes: number;
  /** Another cluster that authz asks for tokens and policy. */
  readonly kubeconfig: string | undefined;
  readonly tokenSeconds: number;
  readonly envoyBinary: string;
  /** The clone. */
  readonly root: string;
  /** What every process gets: PATH. */
  readonly environment: Readonly<Record<string, string>>;
  readonly console: Console;
}

export interface System {
  readonly local: () => LocalFile;
  readonly localFile: string;
  stop(): Promise<void>;
}

const audience = 'kura';
const stopLimitMs = 5_000;
/** sun_path holds 108 bytes with its final zero. */
const longestSocketPath = 107;

interface Ready {
  readonly pid: number;
  readonly listening: Readonly<Record<string, string>>;
}

/** Starts the system and resolves when it serves. On a fault it takes down what it had started and rejects. */
export async function startSystem(options: SystemOptions): Promise<System> {
  const { stateDirectory, root, console } = options;
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  if (options.port !== 0) await requireFree(options.port);
  const lock = await lockState(stateDirectory);
  const localFile = path.join(stateDirectory, 'local.json');
  await removeLocalFile(localFile);
  const stopping = new AbortController();
  const { signal } = stopping;
  const processes: SupervisedProcess[] = [];
  const ready = new Map<string, Ready>();
  const closers: (() => Promise<void> | void)[] = [() => lock.release(), () => removeLocalFile(localFile)];

  const stop = async (): Promise<void> => {
    stopping.abort();
    // Envoy first and the API last: nobody loses what it still needs for a clean end.
    for (const group of stopOrder(processes)) await Promise.all(group.map((process) => process.stop()));
    for (const close of closers.reverse()) await close();
  };

  try {
    return await start();
  } catch (error) {
    await stop();
    throw error;
  }

  async function start(): Promise<System> {
    const socket = await socketPath();
    const tokens: Record<string, string> = {};
    const policy = options.kubeconfig === undefined ? path.join(stateDirectory, 'policy.yaml') : undefined;
    const describe = (): LocalFile => describeSystem({ options, ready, socket, tokens, policy });
    const local = publishLatest<undefined>({ what: localFile, publish: () => writeLocalFile(localFile, describe()), console, signal });
    let isUp = false;

    const supervise = async (spec: Pick<ProcessOptions, 'name' | 'command' | 'probe' | 'onReady' | 'onExit'>): Promise<Ready> => {
      const supervised = await superviseProcess({
        ...spec,
        console,
        stopLimitMs,
        onReady: (news) => {
          ready.set(spec.name, news);
          spec.onReady?.(news);
          if (isUp) local.set(undefined);
        },
      });
      processes.push(supervised);
      return ready.get(spec.name) as Ready;
    };
    const service = (name: string, prefix: string, settings: () => Record<string, string>) => ({
      name,
      command: () => ({
        file: process.execPath,
        args: [path.join(root, 'services', ...serviceFolder(name), 'main.ts')],
        env: { ...options.environment, ...Object.fromEntries(Object.entries(settings()).map(([field, value]) => [prefix + field, value])) },
      }),
    });

    const kubernetesDirectory = path.join(stateDirectory, 'kubernetes');
    const kubeconfig = path.join(kubernetesDirectory, 'admin.kubeconfig');
    await supervise(
      // After the first start it keeps its port: kubeconfigs name it.
      service('kubernetes', 'KURA_KUBERNETES_', () => ({
        LISTEN: ready.get('kubernetes')?.listening.https ?? '127.0.0.1:0',
        DIRECTORY: kubernetesDirectory,
        SHORTEST_TOKEN: `${Math.min(options.tokenSeconds, 600)}s`,
      })),
    );
    const client = connectKubernetes({ kubeconfig });
    closers.push(() => client.close());
    await createCluster(client);
    const shards = shardNames(options.shards);
    await removeOtherShards(client, new Set(shards));

    const startShard = async (pod: string): Promise<void> => {
      const endpoint = publishLatest<ShardEndpoint>({
        what: `the endpoint of ${pod}`,
        publish: (news) => publishShard(client, news),
        console,
        signal,
      });
      await supervise({
        ...service(pod, 'KURA_CACHE_', () => ({
          LISTEN: '127.0.0.1:0',
          METRICS_LISTEN: '127.0.0.1:0',
          DIRECTORY: shardDirectory(options, pod),
          MAX_BYTES: String(options.shardBytes),
          NAME: hashKey(pod),
          DRAIN: '0s',
        })),
        onReady: ({ listening }) => endpoint.set({ pod, port: portOf(listening.objects) }),
        onExit: () => endpoint.set({ pod, port: undefined }),
      });
      await endpoint.settled();
    };
    const startEds = (): Promise<Ready> =>
      supervise(
        service('eds', 'KURA_EDS_', () => ({
          LISTEN: ready.get('eds')?.listening.grpc ?? '127.0.0.1:0',
          METRICS_LISTEN: '127.0.0.1:0',
          KUBECONFIG: kubeconfig,
        })),
      );
    const startAuthz = (): Promise<Ready> =>
      supervise(
        service('authz', 'KURA_AUTHZ_', () => ({
          LISTEN: `unix:${socket}`,
          METRICS_LISTEN: '127.0.0.1:0',
          KUBECONFIG: options.kubeconfig ?? kubeconfig,
        })),
      );
    const standInPolicy = async (): Promise<void> => {
      if (policy === undefined) return;
      await followPolicyFile({ client, file: policy, template: path.join(root, 'k8s', 'base', 'policy.yaml'), console, signal });
      const directory = path.join(stateDirectory, 'tokens');
      Object.assign(
        tokens,
        await keepTokenFiles({ client, directory, workloads, audience, tokenSeconds: options.tokenSeconds, console, signal }),
      );
    };
    await all([...shards.map(startShard), startEds(), standInPolicy().then(startAuthz)]);
    await supervise(await envoyProcess());
    isUp = true;
    local.set(undefined);
    await local.settled();
    return { local: describe, localFile, stop };

    async function envoyProcess(): Promise<Pick<ProcessOptions, 'name' | 'command' | 'probe'>> {
      const [objects, metricsPort, adminPort] = (await freePorts(3)) as [number, number, number];
      const objectsPort = options.port === 0 ? objects : options.port;
      const bootstrap = path.join(stateDirectory, 'envoy.yaml');
      const edsPort = portOf(ready.get('eds')?.listening.grpc);
      const source = await readFile(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8');
      await writeFile(bootstrap, localBootstrap(source, { objectsPort, metricsPort, adminPort, authzSocket: socket, edsPort }));
      const identity = ['--service-node', 'local', '--service-cluster', 'kura-envoy', '--service-zone', zone];
      const listening = { objects: `127.0.0.1:${objectsPort}`, metrics: `127.0.0.1:${metricsPort}`, admin: `127.0.0.1:${adminPort}` };
      return {
        name: 'envoy',
        command: () => ({
          file: options.envoyBinary,
          args: ['-c', bootstrap, ...identity, '--concurrency', '2', '--disable-hot-restart', '--log-level', 'warning'],
          env: options.environment,
        }),
        probe: async () => ((await isLive(`http://${listening.admin}/ready`)) ? listening : undefined),
      };
    }
  }

  /** A socket's path is short by the system's own limit, so a deep state folder has its socket in a folder of its own in the temporary one. */
  async function socketPath(): Promise<string> {
    const usual = path.join(stateDirectory, 'authz.sock');
    if (Buffer.byteLength(usual) <= longestSocketPath) return usual;
    const short = await mkdtemp(path.join(tmpdir(), 'kura-'));
    closers.push(() => rm(short, { recursive: true, force: true }));
    return path.join(short, 'authz.sock');
  }
}

/** Waits for all before it fails for one, so that what a failing start leaves is complete and can be taken down. */
async function all(starts: readonly Promise<unknown>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(starts)) {
    if (outcome.status === 'rejected') throw outcome.reason;
  }
}

function stopOrder(processes: readonly SupervisedProcess[]): SupervisedProcess[][] {
  const rank = ({ name }: SupervisedProcess): number => (name === 'envoy' ? 0 : name === 'kubernetes' ? 2 : 1);
  return [0, 1, 2].map((wanted) => processes.filter((process) => rank(process) === wanted));
}

function describeSystem({
  options,
  ready,
  socket,
  tokens,
  policy,
}: {
  options: SystemOptions;
  ready: ReadonlyMap<string, Ready>;
  socket: string;
  tokens: Readonly<Record<string, string>>;
  policy: string | undefined;
}): LocalFile {
  const at = (name: string, port: string): string => ready.get(name)?.listening[port] ?? '';
  const metricsUrl = (name: string): string => `http://${at(name, 'metrics')}/metrics`;
  return {
    url: `http://${at('envoy', 'objects')}`,
    envoyAdminUrl: `http://${at('envoy', 'admin')}`,
    envoyMetricsUrl: metricsUrl('envoy'),
    kubeconfig: path.join(options.stateDirectory, 'kubernetes', 'admin.kubeconfig'),
    policy: policy ?? null,
    authz: { socket, metricsUrl: metricsUrl('authz') },
    eds: { address: at('eds', 'grpc'), metricsUrl: metricsUrl('eds') },
    tokens,
    shards: shardNames(options.shards).map((pod) => ({
      name: hashKey(pod),
      url: `http://${at(pod, 'objects')}`,
      metricsUrl: metricsUrl(pod),
      directory: shardDirectory(options, pod),
      pid: ready.get(pod)?.pid ?? 0,
    })),
    processes: Object.fromEntries([...ready].map(([name, { pid }]) => [name, pid])),
  };
}

function shardNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `kura-cache-${index}`);
}

function hashKey(pod: string): string {
  return `${pod}/shard-0`;
}

function shardDirectory({ stateDirectory }: SystemOptions, pod: string): string {
  return path.join(stateDirectory, 'shards', pod);
}

function serviceFolder(name: string): string[] {
  if (name === 'kubernetes') return ['local', 'kubernetes'];
  return [name.startsWith('kura-cache-') ? 'cache' : name];
}

function portOf(address: string | undefined): number {
  return Number(address?.slice(address.lastIndexOf(':') + 1));
}

function isLive(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const call = request(url, { timeout: 1_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    call.on('error', () => resolve(false));
    call.on('timeout', () => call.destroy());
    call.end();
  });
}
