/** The whole of kura on one machine: a fake Kubernetes API, shards, eds, authz and Envoy, each a process of its own. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { takeDirectoryLock } from '../shared/directory-lock.ts';
import { connectKubernetes, type KubernetesClient } from '../shared/kubernetes.ts';
import { createCluster, publishShard, removeOtherShards, type ShardEndpoint, workloads } from './cluster.ts';
import type { Console } from './console.ts';
import { createCredential } from './credential.ts';
import { requireFree } from './free-ports.ts';
import { publishLatest } from './latest.ts';
import { type LocalFile, removeLocalFile, writeLocalFile } from './local-file.ts';
import { followPolicyFile } from './policy-file.ts';
import { Processes } from './processes.ts';
import {
  authzProgram,
  edsProgram,
  envoyProgram,
  fakeKubeconfig,
  kubernetesProgram,
  type ProgramContext,
  portOf,
  shardDirectory,
  shardProgram,
} from './programs.ts';
import { untilReady } from './readiness.ts';
import { keepTokenFiles } from './token-files.ts';

interface SystemOptions {
  /** Where everything is kept: objects, keys, tokens, sockets. */
  readonly stateDirectory: string;
  /** Envoy's port for clients; 0 = any free one. */
  readonly port: number;
  readonly shards: number;
  readonly shardBytes: number;
  /** Another cluster that authz asks for tokens and policy, and the environment that its credentials may need (an `exec` plugin's, for instance). */
  readonly cluster: { readonly kubeconfig: string; readonly environment: Readonly<Record<string, string>> } | undefined;
  readonly tokenSeconds: number;
  readonly envoyBinary: string;
  /** The clone. */
  readonly root: string;
  /** What every process gets: PATH, and where Node keeps compiled code. */
  readonly environment: Readonly<Record<string, string>>;
  /** `KURA_<SERVICE>_…` settings that the services get beside those that are set here. */
  readonly settings: Readonly<Record<string, string>>;
  readonly console: Console;
  /** Ends a start that is under way. */
  readonly signal: AbortSignal;
}

export interface System {
  readonly local: () => LocalFile;
  readonly localFile: string;
  stop(): Promise<void>;
}

const audience = 'kura';
/** authz serves at once, but answers 503 until it has a policy. */
const policyLimitMs = 10_000;

/** What the steps of a start share. */
interface Start {
  readonly options: SystemOptions;
  readonly context: ProgramContext;
  readonly socket: string;
  readonly tokens: Record<string, string>;
  /** The file that stands for the policy ConfigMap; undefined where another cluster has it. */
  readonly policy: string | undefined;
  readonly signal: AbortSignal;
}

/** Starts the system and resolves when it serves. On a fault, and when `signal` aborts, it takes down what it had started and rejects. */
export async function startSystem(options: SystemOptions): Promise<System> {
  const { stateDirectory, console } = options;
  if (options.port !== 0) await requireFree(options.port);
  const lock = await takeDirectoryLock(stateDirectory);
  if (lock === undefined) throw new Error(`another kura runs on ${stateDirectory}: stop it first, or choose another folder with --state`);
  const localFile = path.join(stateDirectory, 'local.json');
  await removeLocalFile(localFile);
  const { socket, remove: removeSocket } = await authzSocketPath(stateDirectory);
  const stopping = new AbortController();
  const signal = AbortSignal.any([stopping.signal, options.signal]);

  let isUp = false;
  const local = publishLatest<undefined>({ what: localFile, publish: () => writeLocalFile(localFile, describe(start)), console, signal });
  const processes = new Processes({
    console,
    signal,
    onChange: () => {
      if (isUp) local.set(undefined);
    },
  });
  const policy = options.cluster === undefined ? path.join(stateDirectory, 'policy.yaml') : undefined;
  const start: Start = { options, context: { ...options, processes }, socket, tokens: {}, policy, signal };

  let client: KubernetesClient | undefined;
  const stop = async (): Promise<void> => {
    stopping.abort();
    await processes.stop();
    await client?.close();
    await removeLocalFile(localFile);
    await removeSocket();
    await lock.release();
  };
  try {
    await createCredential(stateDirectory);
    const cluster = startCluster(start).then((connected) => {
      client = connected;
      return connected;
    });
    // Nobody needs to go on publishing to a cluster that will not be.
    cluster.catch(() => stopping.abort());
    await startParts(start, cluster);
    signal.throwIfAborted();
    isUp = true;
    local.set(undefined);
    await local.settled();
  } catch (error) {
    await stop();
    throw error;
  }
  return { local: () => describe(start), localFile, stop };
}

/** The Kubernetes API with what a local cluster begins with. */
async function startCluster({ options, context }: Start): Promise<KubernetesClient> {
  await context.processes.start(kubernetesProgram(context, options));
  const client = connectKubernetes({ kubeconfig: fakeKubeconfig(context) });
  await createCluster(client);
  await removeOtherShards(client, new Set(podNames(options.shards)));
  return client;
}

/** Side by side: the shards, which are published once there is a cluster; behind the cluster eds and authz; and at last Envoy, which needs them all. */
async function startParts(start: Start, cluster: Promise<KubernetesClient>): Promise<void> {
  const { options, context, socket } = start;
  const { processes } = context;
  await all([
    ...podNames(options.shards).map((pod) => startShard(start, cluster, pod)),
    cluster.then(() => processes.start(edsProgram(context))),
    cluster.then((client) => provideWorkloads(start, client)).then(() => startAuthz(start)),
  ]);
  await processes.start(await envoyProgram(context, { binary: options.envoyBinary, port: options.port, socket }));
}

/** A shard whose endpoint in the cluster follows it: gone while it is dead, elsewhere when it is back. */
async function startShard({ options, context, signal }: Start, cluster: Promise<KubernetesClient>, pod: string): Promise<void> {
  const endpoint = publishLatest<ShardEndpoint>({
    what: `the endpoint of ${pod}`,
    publish: async (news) => publishShard(await cluster, news),
    console: options.console,
    signal,
  });
  await context.processes.start({
    ...shardProgram(context, { pod, hashKey: hashKey(pod), maxBytes: options.shardBytes }),
    onReady: ({ listening }) => endpoint.set({ pod, port: portOf(listening.objects), metricsPort: portOf(listening.metrics) }),
    onExit: () => endpoint.set({ pod, port: undefined, metricsPort: undefined }),
  });
  await endpoint.settled();
}

/** Serving is not enough: without a policy every request would be a 503. */
async function startAuthz({ options, context, socket, signal }: Start): Promise<void> {
  const { processes } = context;
  await processes.start(authzProgram(context, { socket, cluster: options.cluster }));
  const url = `http://${processes.address('authz', 'metrics')}/readyz`;
  const reason = await untilReady(url, AbortSignal.any([signal, AbortSignal.timeout(policyLimitMs)]));
  if (reason !== undefined) throw new Error(`authz is not ready after ${policyLimitMs / 1000} s: ${reason}`);
}

/** The policy and the workloads' tokens, unless another cluster has them. */
async function provideWorkloads({ options, tokens, policy, signal }: Start, client: KubernetesClient): Promise<void> {
  if (policy === undefined) return;
  const { stateDirectory, root, tokenSeconds, console } = options;
  await followPolicyFile({ client, file: policy, template: path.join(root, 'k8s', 'base', 'policy.yaml'), console, signal });
  const directory = path.join(stateDirectory, 'tokens');
  Object.assign(tokens, await keepTokenFiles({ client, directory, workloads, audience, tokenSeconds, console, signal }));
}

/** Waits for all before it fails for one, so that what a failing start leaves is complete and can be taken down. */
async function all(starts: readonly Promise<unknown>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(starts)) {
    if (outcome.status === 'rejected') throw outcome.reason;
  }
}

function describe({ options, context, socket, tokens, policy }: Start): LocalFile {
  const { processes } = context;
  const at = (name: string, port: string): string => `http://${processes.address(name, port) ?? ''}`;
  const metricsUrl = (name: string): string => `${at(name, 'metrics')}/metrics`;
  const pids = processes.pids();
  return {
    url: at('envoy', 'objects'),
    envoyAdminUrl: at('envoy', 'admin'),
    envoyMetricsUrl: metricsUrl('envoy'),
    kubeconfig: fakeKubeconfig(context),
    policy: policy ?? null,
    authz: { socket, metricsUrl: metricsUrl('authz') },
    eds: { address: processes.address('eds', 'grpc') ?? '', metricsUrl: metricsUrl('eds') },
    tokens,
    shards: podNames(options.shards).map((pod) => ({
      name: hashKey(pod),
      url: at(pod, 'objects'),
      metricsUrl: metricsUrl(pod),
      directory: shardDirectory(context, pod),
      pid: pids[pod] ?? 0,
    })),
    processes: pids,
  };
}

function podNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `kura-cache-${index}`);
}

/** One shard a Pod. */
function hashKey(pod: string): string {
  return `${pod}/shard-0`;
}

/** sun_path holds 108 bytes with its final zero. */
const longestSocketPath = 107;

/**
 * Where authz's socket lies: in the state directory, or, where that is too deep for a socket's path, in a short folder of its own. `remove` takes away what is
 * left of it, also when authz was killed.
 */
async function authzSocketPath(stateDirectory: string): Promise<{ socket: string; remove: () => Promise<void> }> {
  const usual = path.join(stateDirectory, 'authz.sock');
  if (Buffer.byteLength(usual) <= longestSocketPath) return { socket: usual, remove: () => rm(usual, { force: true }) };
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-'));
  return { socket: path.join(folder, 'authz.sock'), remove: () => rm(folder, { recursive: true, force: true }) };
}
