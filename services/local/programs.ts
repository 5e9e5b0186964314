/** The command line and the settings of each process of a local system. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { nodeFlags } from '../shared/node-flags.ts';
import { localBootstrap } from './bootstrap.ts';
import { zone } from './cluster.ts';
import { credentialFile } from './credential.ts';
import { freePorts } from './free-ports.ts';
import type { Processes, Program } from './processes.ts';
import { whyNotReady } from './readiness.ts';

export interface ProgramContext {
  readonly root: string;
  readonly stateDirectory: string;
  /** The environment of every process: PATH, and Node's compile cache. */
  readonly environment: Readonly<Record<string, string>>;
  /** The user's settings by their full names. Each service gets those with its prefix. The settings in this file override them. */
  readonly settings: Readonly<Record<string, string>>;
  readonly processes: Processes;
}

/** The ports between shards, the origin service and Envoy. */
export interface OriginPorts {
  readonly fetch: number;
  readonly prefetch: number;
  /** Of Envoy's listener `fill`. */
  readonly fill: number;
}

const anyPort = '127.0.0.1:0';

/** The kubeconfig of the administrator, which the fake Kubernetes API writes. */
export function adminKubeconfig({ stateDirectory }: Pick<ProgramContext, 'stateDirectory'>): string {
  return path.join(stateDirectory, 'kubernetes', 'admin.kubeconfig');
}

export function shardDirectory({ stateDirectory }: Pick<ProgramContext, 'stateDirectory'>, pod: string): string {
  return path.join(stateDirectory, 'shards', pod);
}

/** A restart keeps the port, because kubeconfigs contain it. */
export function kubernetesProgram(context: ProgramContext, { tokenSeconds }: { tokenSeconds: number }): Program {
  return service(context, { name: 'kubernetes', folder: 'fake-kubernetes', prefix: 'KURA_KUBERNETES_' }, () => ({
    LISTEN: context.processes.address('kubernetes', 'https') ?? anyPort,
    DIRECTORY: path.dirname(adminKubeconfig(context)),
    SHORTEST_TOKEN: `${Math.min(tokenSeconds, 600)}s`,
  }));
}

export function shardProgram(
  context: ProgramContext,
  { pod, hashKey, maxBytes, origin }: { pod: string; hashKey: string; maxBytes: number; origin?: OriginPorts | undefined },
): Program {
  return service(context, { name: pod, folder: 'cache', prefix: 'KURA_CACHE_', flags: nodeFlags }, () => ({
    LISTEN: anyPort,
    METRICS_LISTEN: anyPort,
    ADVERTISE: '127.0.0.1',
    DIRECTORY: shardDirectory(context, pod),
    MAX_BYTES: String(maxBytes),
    NAME: hashKey,
    CREDENTIAL_FILE: credentialFile(context.stateDirectory),
    DRAIN: context.settings.KURA_CACHE_DRAIN ?? '0s',
    ...(origin === undefined ? {} : { ORIGIN_URL: `http://127.0.0.1:${origin.fetch}` }),
  }));
}

/** A restart keeps the ports, because the shards and Envoy's bootstrap contain them. */
export function originProgram(context: ProgramContext, ports: OriginPorts): Program {
  return service(context, { name: 'origin', folder: 'origin', prefix: 'KURA_ORIGIN_', flags: nodeFlags }, () => ({
    LISTEN: `127.0.0.1:${ports.fetch}`,
    PREFETCH_LISTEN: `127.0.0.1:${ports.prefetch}`,
    METRICS_LISTEN: anyPort,
    KUBECONFIG: adminKubeconfig(context),
    CREDENTIAL_FILE: credentialFile(context.stateDirectory),
    SECRETS_DIRECTORY: path.join(context.stateDirectory, 'origins'),
    FILL_URL: `http://127.0.0.1:${ports.fill}`,
    DRAIN: context.settings.KURA_ORIGIN_DRAIN ?? '0s',
  }));
}

/** A restart keeps the port, because Envoy's bootstrap contains it. */
export function edsProgram(context: ProgramContext): Program {
  return service(context, { name: 'eds', folder: 'eds', prefix: 'KURA_EDS_' }, () => ({
    LISTEN: context.processes.address('eds', 'grpc') ?? anyPort,
    METRICS_LISTEN: anyPort,
    KUBECONFIG: adminKubeconfig(context),
  }));
}

/** authz uses the fake Kubernetes API, or another cluster. */
export function authzProgram(
  context: ProgramContext,
  {
    socket,
    cluster,
  }: { socket: string; cluster: { readonly kubeconfig: string; readonly environment: Readonly<Record<string, string>> } | undefined },
): Program {
  const environment = { ...cluster?.environment, ...context.environment };
  return service({ ...context, environment }, { name: 'authz', folder: 'authz', prefix: 'KURA_AUTHZ_' }, () => ({
    LISTEN: `unix:${socket}`,
    METRICS_LISTEN: anyPort,
    KUBECONFIG: cluster?.kubeconfig ?? adminKubeconfig(context),
    CREDENTIAL_FILE: credentialFile(context.stateDirectory),
    POLICY_FILE: path.join(context.stateDirectory, 'policy.last-good.yaml'),
  }));
}

/** A restart keeps the ports: the page is open in a browser, and Envoy's bootstrap contains the other one. */
export function consoleProgram(context: ProgramContext): Program {
  return service(context, { name: 'console', folder: 'console', prefix: 'KURA_CONSOLE_' }, () => ({
    LISTEN: context.processes.address('console', 'page') ?? anyPort,
    DATASETS_LISTEN: context.processes.address('console', 'datasets') ?? anyPort,
    METRICS_LISTEN: anyPort,
    KUBECONFIG: adminKubeconfig(context),
    CREDENTIAL_FILE: credentialFile(context.stateDirectory),
    STATE_DIRECTORY: context.stateDirectory,
  }));
}

/** Envoy with the operators' bootstrap and local addresses. `port` 0 selects any free port. eds and the console must already serve. */
export async function envoyProgram(
  { root, stateDirectory, environment, processes }: ProgramContext,
  { binary, port, socket, origin }: { binary: string; port: number; socket: string; origin?: OriginPorts | undefined },
): Promise<Program> {
  const [freePort, metricsPort, adminPort] = (await freePorts(3)) as [number, number, number];
  const objectsPort = port === 0 ? freePort : port;
  const edsPort = portOf(processes.address('eds', 'grpc'));
  const source = await readFile(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8');
  const file = path.join(stateDirectory, 'envoy.yaml');
  const grantsFile = path.join(root, 'envoy', 'grants.lua');
  const grpcFile = path.join(root, 'envoy', 'grpc.lua');
  const files = { grantsFile, grpcFile };
  const added = {
    origin: origin && { fragment: await fragment(root, 'origin'), fillPort: origin.fill, prefetchPort: origin.prefetch },
    console: { fragment: await fragment(root, 'console'), port: portOf(processes.address('console', 'datasets')) },
  };
  const addresses = { objectsPort, metricsPort, adminPort, authzSocket: socket, edsPort, ...files, ...added };
  await writeFile(file, localBootstrap(source, addresses));
  const identity = ['--service-node', 'local', '--service-cluster', 'kura-envoy', '--service-zone', zone];
  const listening = { objects: `127.0.0.1:${objectsPort}`, metrics: `127.0.0.1:${metricsPort}`, admin: `127.0.0.1:${adminPort}` };
  return {
    name: 'envoy',
    command: () => ({
      file: binary,
      args: ['-c', file, ...identity, '--concurrency', '2', '--disable-hot-restart', '--log-level', 'warning'],
      env: environment,
    }),
    probe: async () => ((await whyNotReady(`http://${listening.admin}/ready`)) === undefined ? listening : undefined),
  };
}

function fragment(root: string, component: string): Promise<string> {
  return readFile(path.join(root, 'k8s', 'components', component, `fragment-${component}.yaml`), 'utf8');
}

export function portOf(address: string | undefined): number {
  return Number(address?.slice(address.lastIndexOf(':') + 1));
}

function service(
  { root, environment, settings }: ProgramContext,
  { name, folder, prefix, flags = [] }: { name: string; folder: string; prefix: string; flags?: readonly string[] },
  ownSettings: () => Readonly<Record<string, string>>,
): Program {
  const inherited = Object.fromEntries(Object.entries(settings).filter(([variable]) => variable.startsWith(prefix)));
  return {
    name,
    command: () => ({
      file: process.execPath,
      args: [...flags, path.join(root, 'services', folder, 'main.ts')],
      env: {
        ...environment,
        ...inherited,
        ...Object.fromEntries(Object.entries(ownSettings()).map(([field, value]) => [prefix + field, value])),
      },
    }),
  };
}
