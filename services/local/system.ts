/** The whole kura system on one machine: a fake Kubernetes API, shards, eds, authz, Envoy and the console. Each is a separate process. */
import path from 'node:path';
import { type DirectoryLock, takeDirectoryLock } from '../shared/directory-lock.ts';
import { connectKubernetes, type KubernetesClient } from '../shared/kubernetes.ts';
import { type AuthzSocket, chooseAuthzSocket } from './authz-socket.ts';
import {
  createCluster,
  type PartEndpoint,
  publishConfigMap,
  publishPart,
  publishShard,
  removeOtherShards,
  type ShardEndpoint,
  workloads,
} from './cluster.ts';
import type { Console } from './console.ts';
import { createCredential } from './credential.ts';
import { freePorts, requireFree } from './free-ports.ts';
import { type LatestPublisher, publishLatest } from './latest.ts';
import { type LocalFile, removeLocalFile, writeLocalFile } from './local-file.ts';
import { type LocalOrigin, originsDocument, withReadRules } from './origins.ts';
import { followPolicyFile } from './policy-file.ts';
import { Processes, type Program } from './processes.ts';
import {
  adminKubeconfig,
  authzProgram,
  consoleProgram,
  edsProgram,
  envoyProgram,
  kubernetesProgram,
  type OriginPorts,
  originProgram,
  type ProgramContext,
  portOf,
  shardDirectory,
  shardProgram,
} from './programs.ts';
import { untilReady } from './readiness.ts';
import { defaultShardBytes } from './shard-bytes.ts';
import { keepTokenFiles } from './token-files.ts';

interface SystemOptions {
  /** The folder of everything that is kept: objects, keys, tokens, sockets. */
  readonly stateDirectory: string;
  /** Envoy's port for clients; 0 = any free port. */
  readonly port: number;
  readonly shards: number;
  /** Undefined selects a default that fits the disk. */
  readonly shardBytes: number | undefined;
  /**
   * Another cluster that provides tokens and policy to authz, and the environment for its credentials (of an `exec` plugin, for
   * example).
   */
  readonly cluster: { readonly kubeconfig: string; readonly environment: Readonly<Record<string, string>> } | undefined;
  readonly tokenSeconds: number;
  readonly origins: readonly LocalOrigin[];
  readonly envoyBinary: string;
  /** The clone. */
  readonly root: string;
  /** The environment of every process: PATH, and Node's compile cache. */
  readonly environment: Readonly<Record<string, string>>;
  /** `KURA_<SERVICE>_…` settings of the user for the services. The settings of the local system override them. */
  readonly settings: Readonly<Record<string, string>>;
  readonly console: Console;
  /** Cancels a start that is in progress. */
  readonly signal: AbortSignal;
}

const audience = 'kura';
/** authz serves immediately, but returns 503 until it has a policy. */
const maxPolicyWaitMs = 10_000;

/** Starts the system and resolves when it serves. On an error, or when `signal` aborts, it stops what has started and rejects. */
export async function startSystem(options: SystemOptions): Promise<System> {
  const { stateDirectory } = options;
  if (options.port !== 0) await requireFree(options.port);
  const lock = await takeDirectoryLock(stateDirectory);
  if (lock === undefined)
    throw new Error(`another kura system uses ${stateDirectory}: stop that system, or choose another folder with --state`);
  const localFile = path.join(stateDirectory, 'local.json');
  await removeLocalFile(localFile);
  const shardBytes = options.shardBytes ?? (await defaultShardBytes(options));
  const system = new System(options, { lock, localFile, shardBytes, socket: await chooseAuthzSocket(stateDirectory) });
  try {
    await system.start();
  } catch (error) {
    await system.stop();
    throw error;
  }
  return system;
}

export class System {
  readonly localFile: string;
  /** The capacity of each shard. */
  readonly shardBytes: number;
  readonly #options: SystemOptions;
  readonly #lock: DirectoryLock;
  readonly #socket: AuthzSocket;
  readonly #stopping = new AbortController();
  readonly #signal: AbortSignal;
  readonly #processes: Processes;
  readonly #context: ProgramContext;
  readonly #publishedLocal: LatestPublisher<undefined>;
  /** The file of the ConfigMap kura-policy; undefined if another cluster provides the policy. */
  readonly #policy: string | undefined;
  /** The client of the fake Kubernetes API, once that serves. */
  #client: KubernetesClient | undefined;
  #tokens: Readonly<Record<string, string>> = {};
  /** Undefined without origins. */
  #originPorts: OriginPorts | undefined;
  /** From then on, a change of a pid or port rewrites local.json. */
  #isUp = false;

  constructor(
    options: SystemOptions,
    { lock, localFile, shardBytes, socket }: { lock: DirectoryLock; localFile: string; shardBytes: number; socket: AuthzSocket },
  ) {
    const { stateDirectory, console } = options;
    this.localFile = localFile;
    this.shardBytes = shardBytes;
    this.#options = options;
    this.#lock = lock;
    this.#socket = socket;
    this.#signal = AbortSignal.any([this.#stopping.signal, options.signal]);
    this.#policy = options.cluster === undefined ? path.join(stateDirectory, 'policy.yaml') : undefined;
    this.#processes = new Processes({ console, signal: this.#signal, onChange: () => this.#onChange() });
    this.#context = { ...options, processes: this.#processes };
    this.#publishedLocal = publishLatest<undefined>({
      what: localFile,
      publish: () => writeLocalFile(localFile, this.local()),
      console,
      signal: this.#signal,
    });
  }

  /** Resolves when every part serves and local.json exists. After a rejection the caller must call `stop`. */
  async start(): Promise<void> {
    await createCredential(this.#options.stateDirectory);
    this.#originPorts = await originPorts(this.#options.origins);
    const cluster = this.#startCluster();
    // Without a cluster, nothing has to be published any longer.
    cluster.catch(() => this.#stopping.abort());
    await this.#startParts(cluster);
    this.#signal.throwIfAborted();
    this.#isUp = true;
    this.#publishedLocal.set(undefined);
    await this.#publishedLocal.settled();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#processes.stop();
    await this.#client?.close();
    await removeLocalFile(this.localFile);
    await this.#socket.remove();
    await this.#lock.release();
  }

  /** The content of local.json. */
  local(): LocalFile {
    const processes = this.#processes;
    const url = (name: string, port: string): string => `http://${processes.address(name, port) ?? ''}`;
    const metricsUrl = (name: string): string => `${url(name, 'metrics')}/metrics`;
    const pids = processes.pids();
    return {
      url: url('envoy', 'objects'),
      envoyAdminUrl: url('envoy', 'admin'),
      envoyMetricsUrl: metricsUrl('envoy'),
      kubeconfig: adminKubeconfig(this.#context),
      policy: this.#policy ?? null,
      authz: { socket: this.#socket.path, metricsUrl: metricsUrl('authz') },
      origins: this.#options.origins.map(({ prefix, source }) => ({ prefix, source })),
      originMetricsUrl: this.#originPorts === undefined ? null : metricsUrl('origin'),
      eds: { address: processes.address('eds', 'grpc') ?? '', metricsUrl: metricsUrl('eds') },
      consoleUrl: url('console', 'page'),
      consoleMetricsUrl: metricsUrl('console'),
      tokens: this.#tokens,
      shards: podNames(this.#options.shards).map((pod) => ({
        name: hashKey(pod),
        url: url(pod, 'objects'),
        metricsUrl: metricsUrl(pod),
        directory: shardDirectory(this.#context, pod),
        pid: pids[pod] ?? 0,
      })),
      processes: pids,
    };
  }

  #onChange(): void {
    if (this.#isUp) this.#publishedLocal.set(undefined);
  }

  /** Starts the fake Kubernetes API and creates the initial objects of the cluster. */
  async #startCluster(): Promise<KubernetesClient> {
    await this.#processes.start(kubernetesProgram(this.#context, this.#options));
    const client = connectKubernetes({ kubeconfig: adminKubeconfig(this.#context) });
    await createCluster(client);
    await removeOtherShards(client, new Set(podNames(this.#options.shards)));
    await publishConfigMap(client, { name: 'kura-origins', data: { 'origins.yaml': originsDocument(this.#options.origins) } });
    this.#client = client;
    return client;
  }

  /**
   * Starts the shards concurrently with the cluster, then eds, authz and the console, and Envoy last, because it needs all of
   * them.
   */
  async #startParts(cluster: Promise<KubernetesClient>): Promise<void> {
    const { envoyBinary: binary, port, shards } = this.#options;
    await all([
      ...podNames(shards).map((pod) => this.#startShard(cluster, pod)),
      cluster.then(() => this.#startPart(cluster, edsProgram(this.#context), { part: 'kura-eds', portName: 'metrics' })),
      cluster.then(() => this.#startOrigin(cluster)),
      cluster.then(() => this.#startPart(cluster, consoleProgram(this.#context), { part: 'kura-console', portName: 'metrics' })),
      cluster.then((client) => this.#provideWorkloads(client)).then(() => this.#startAuthz(cluster)),
    ]);
    const envoy = await envoyProgram(this.#context, { binary, port, socket: this.#socket.path, origin: this.#originPorts });
    await this.#startPart(cluster, envoy, { part: 'kura-envoy', portName: 'metrics' });
  }

  /** Starts a part and keeps its Pod in the cluster current. */
  async #startPart(
    cluster: Promise<KubernetesClient>,
    program: Program,
    { part, portName }: Pick<PartEndpoint, 'part' | 'portName'>,
  ): Promise<void> {
    const endpoint = publishLatest<PartEndpoint>({
      what: `the Pod of ${part}`,
      publish: async (newest) => publishPart(await cluster, newest),
      console: this.#options.console,
      signal: this.#signal,
    });
    await this.#processes.start({
      ...program,
      onReady: ({ listening }) => endpoint.set({ part, portName, port: portOf(listening.metrics) }),
    });
    await endpoint.settled();
  }

  /** Starts a shard and keeps its endpoint in the cluster current: not ready after a crash, with the new ports after a restart. */
  async #startShard(cluster: Promise<KubernetesClient>, pod: string): Promise<void> {
    const endpoint = publishLatest<ShardEndpoint>({
      what: `the endpoint of ${pod}`,
      publish: async (newest) => publishShard(await cluster, newest),
      console: this.#options.console,
      signal: this.#signal,
    });
    await this.#processes.start({
      ...shardProgram(this.#context, { pod, hashKey: hashKey(pod), maxBytes: this.shardBytes, origin: this.#originPorts }),
      onReady: ({ listening }) => endpoint.set({ pod, port: portOf(listening.objects), metricsPort: portOf(listening.metrics) }),
      onExit: () => endpoint.set({ pod, port: undefined, metricsPort: undefined }),
    });
    await endpoint.settled();
  }

  async #startOrigin(cluster: Promise<KubernetesClient>): Promise<void> {
    if (this.#originPorts === undefined) return;
    await this.#startPart(cluster, originProgram(this.#context, this.#originPorts), { part: 'kura-origin', portName: 'metrics' });
  }

  /** Starts authz and waits until it has a policy. Without a policy it returns 503 for every request. */
  async #startAuthz(cluster: Promise<KubernetesClient>): Promise<void> {
    const program = authzProgram(this.#context, { socket: this.#socket.path, cluster: this.#options.cluster });
    await this.#startPart(cluster, program, { part: 'kura-authz', portName: 'authz-metrics' });
    const url = `http://${this.#processes.address('authz', 'metrics')}/readyz`;
    const reason = await untilReady(url, AbortSignal.any([this.#signal, AbortSignal.timeout(maxPolicyWaitMs)]));
    if (reason !== undefined) throw new Error(`authz is not ready after ${maxPolicyWaitMs / 1000} s: ${reason}`);
  }

  /** Provides the policy and the tokens of the workloads, unless another cluster does. */
  async #provideWorkloads(client: KubernetesClient): Promise<void> {
    if (this.#policy === undefined) return;
    const { stateDirectory, root, tokenSeconds, origins, console } = this.#options;
    const signal = this.#signal;
    const template = path.join(root, 'k8s', 'base', 'policy.yaml');
    const namespaces = workloads.map(({ namespace }) => namespace);
    const complete = (text: string): string => withReadRules(text, origins, namespaces);
    await followPolicyFile({ client, file: this.#policy, template, complete, console, signal });
    const directory = path.join(stateDirectory, 'tokens');
    this.#tokens = await keepTokenFiles({ client, directory, workloads, audience, tokenSeconds, console, signal });
  }
}

/** Waits for all starts before it rejects for one, so that a failed start can be stopped completely. */
async function all(starts: readonly Promise<unknown>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(starts)) {
    if (outcome.status === 'rejected') throw outcome.reason;
  }
}

async function originPorts(origins: readonly LocalOrigin[]): Promise<OriginPorts | undefined> {
  if (origins.length === 0) return undefined;
  const [fetch, prefetch, fill] = (await freePorts(3)) as [number, number, number];
  return { fetch, prefetch, fill };
}

function podNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `kura-cache-${index}`);
}

/** Each Pod runs one shard. */
function hashKey(pod: string): string {
  return `${pod}/shard-0`;
}
