/** A real Envoy with the operators' bootstrap and local addresses. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type Document, parseDocument } from 'yaml';
import { localBootstrap } from '../../services/local/bootstrap.ts';
import { envoyBinary } from '../../services/local/envoy-binary.ts';
import { freePorts } from '../../services/local/free-ports.ts';

const root = path.resolve(import.meta.dirname, '..', '..');

interface BootstrapEnvoy {
  readonly child: ChildProcess;
  readonly ports: { readonly objects: number; readonly metrics: number; readonly admin: number };
  /** The output so far: the access log, and Envoy's own log. */
  readonly printed: { readonly accessLog: string; readonly errors: string };
  /** Resolves when Envoy has exited. */
  readonly exited: Promise<unknown>;
  /** Kills Envoy. */
  stop(): Promise<void>;
}

interface BootstrapEnvoyOptions {
  readonly folder: string;
  readonly authzSocket: string;
  /** Undefined selects a port without a listener. */
  readonly edsPort: number | undefined;
  /** Edits the bootstrap like an operator. */
  readonly edit?: (bootstrap: Document) => void;
  readonly args?: readonly string[];
}

/** Starts Envoy with one worker thread, so that there is one table of grants. Resolves before Envoy is ready. */
export async function startBootstrapEnvoy({
  folder,
  authzSocket,
  edsPort,
  edit,
  args = [],
}: BootstrapEnvoyOptions): Promise<BootstrapEnvoy> {
  const [objects, metrics, admin, unusedPort] = (await freePorts(4)) as [number, number, number, number];
  const source = await readFile(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8');
  const bootstrap = parseDocument(
    localBootstrap(source, {
      objectsPort: objects,
      metricsPort: metrics,
      adminPort: admin,
      authzSocket,
      edsPort: edsPort ?? unusedPort,
      grantsFile: path.join(root, 'envoy', 'grants.lua'),
      grpcFile: path.join(root, 'envoy', 'grpc.lua'),
    }),
  );
  edit?.(bootstrap);
  const file = path.join(folder, 'envoy.yaml');
  await writeFile(file, bootstrap.toString());
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const identity = ['--service-node', path.basename(folder), '--service-cluster', 'kura-envoy', '--service-zone', 'a'];
  const options = ['--concurrency', '1', '--use-dynamic-base-id', '--log-level', 'error', ...args];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', binary, '-c', file, ...identity, ...options], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const printed = { accessLog: '', errors: '' };
  child.stdout.on('data', (chunk) => (printed.accessLog += chunk));
  child.stderr.on('data', (chunk) => (printed.errors += chunk));
  const exited = once(child, 'exit');
  return {
    child,
    ports: { objects, metrics, admin },
    printed,
    exited,
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
