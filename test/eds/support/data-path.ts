/** A real Envoy with the operators' bootstrap, a real eds and a fake cluster, in front of fake shards that a test stops and starts. */
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { type Document, parse } from 'yaml';
import { addCheck } from '../../../services/authz/check.ts';
import { namedEntry } from '../../../services/local/bootstrap.ts';
import { startGrpcServer } from '../../../services/shared/grpc.ts';
import { type Listening, listen } from '../../../services/shared/listen.ts';
import { createLogger } from '../../../services/shared/log.ts';
import { allow } from '../../envoy/support/decisions.ts';
import { startBootstrapEnvoy } from '../../support/bootstrap-envoy.ts';
import { type Service, temporaryFolder } from '../../support/service.ts';
import { waitFor } from '../../support/wait.ts';

const root = path.resolve(import.meta.dirname, '..', '..', '..');

/** One address that keeps its objects while it does not listen. */
export class FakeShard {
  readonly #objects = new Set<string>();
  #server: Listening | undefined;
  port = 0;
  /** Requests for objects since the start. */
  requests = 0;

  /** `isShard` false: another program, whose health check succeeds, at the same address. */
  async start({ isShard = true }: { isShard?: boolean } = {}): Promise<void> {
    const server = createServer((request, response) => {
      const { method, url = '' } = request;
      request.resume();
      if (url === '/healthz') {
        response.writeHead(200, isShard ? { 'x-envoy-upstream-healthchecked-cluster': 'kura-cache' } : {}).end();
        return;
      }
      this.requests += 1;
      if (method === 'PUT') this.#objects.add(url);
      response.writeHead(method === 'PUT' ? 201 : this.#objects.has(url) ? 200 : 404).end();
    });
    this.#server = await listen(server, { host: '127.0.0.1', port: this.port });
    this.port = Number(this.#server.address.split(':').at(-1));
  }

  async stop(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }
}

interface DataPath {
  /** A counter or gauge of Envoy. */
  stat(name: string): Promise<number>;
  /** The status of a request for this key through Envoy. */
  call(method: 'GET' | 'PUT', key: string): Promise<number>;
}

/** Resolves when Envoy has its first assignment. Envoy uses any of several replicas, and checks their health each second. */
export function startDataPath(t: ExecutionContext, ...replicas: readonly Service[]): Promise<DataPath> {
  return startDataPathOf(t, replicas, undefined);
}

/** The same, with mutual TLS between Envoy and eds. `certificates` is the folder of Envoy's own. */
export function startTlsDataPath(t: ExecutionContext, replicas: readonly Service[], certificates: string): Promise<DataPath> {
  return startDataPathOf(t, replicas, certificates);
}

async function startDataPathOf(t: ExecutionContext, replicas: readonly Service[], certificates: string | undefined): Promise<DataPath> {
  const folder = await temporaryFolder(t);
  const socket = path.join(folder, 'authz.sock');
  const log = createLogger({ service: 'authz', level: 'error' });
  const authz = await startGrpcServer({
    target: `unix:${socket}`,
    graceMs: 0,
    register: (server) => addCheck(server, { decide: async () => allow(undefined), log }),
  });
  t.teardown(() => authz.close());
  const ports = replicas.map(({ listening }) => Number(listening.grpc?.split(':').at(-1)));
  const transportSocket = certificates === undefined ? undefined : await edsTransportSocket(folder, certificates);
  const edit = (bootstrap: Document): void => {
    const cluster = namedEntry(bootstrap, ['static_resources', 'clusters'], 'eds');
    cluster.setIn(['health_checks', 0, 'interval'], '1s');
    const endpoints = ports.map((port) => ({ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }));
    if (transportSocket !== undefined) cluster.set('transport_socket', bootstrap.createNode(transportSocket));
    cluster.setIn(['load_assignment', 'endpoints', 0, 'lb_endpoints'], bootstrap.createNode(endpoints));
  };
  const envoy = await startBootstrapEnvoy({ folder, authzSocket: socket, edsPort: ports[0], edit });
  t.teardown(() => envoy.stop());
  await waitFor('Envoy has an assignment', async () => {
    if (envoy.child.exitCode !== null) throw new Error(envoy.printed.errors);
    return (await fetch(`http://127.0.0.1:${envoy.ports.metrics}/readyz`, { signal: AbortSignal.timeout(2_000) })).ok;
  });
  return {
    stat: async (name) => {
      const response = await fetch(`http://127.0.0.1:${envoy.ports.admin}/stats?filter=^${name}$`, { signal: AbortSignal.timeout(5_000) });
      return Number(/: (\d+)/.exec(await response.text())?.[1]);
    },
    call: async (method, key) => {
      const response = await fetch(`http://127.0.0.1:${envoy.ports.objects}/objects/${key}`, {
        method,
        headers: { authorization: 'Bearer a.b.c' },
        signal: AbortSignal.timeout(10_000),
      });
      await response.arrayBuffer();
      return response.status;
    },
  };
}

const component = path.join(root, 'k8s', 'components', 'tls');

/** The transport socket of the component tls, whose secrets Envoy reads from `certificates`. */
export async function edsTransportSocket(folder: string, certificates: string): Promise<object> {
  for (const name of ['eds-client-certificate.yaml', 'eds-authority.yaml']) {
    const text = await readFile(path.join(component, name), 'utf8');
    await writeFile(path.join(folder, name), text.replaceAll('/etc/kura/eds-tls', certificates));
  }
  const fragment = (await readFile(path.join(component, 'fragment-tls.yaml'), 'utf8')).replaceAll('/etc/envoy', folder);
  const { clusters } = (parse(fragment) as { static_resources: { clusters: { name: string; transport_socket: object }[] } })
    .static_resources;
  return clusters.find(({ name }) => name === 'eds')?.transport_socket as object;
}
