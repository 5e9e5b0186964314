/**
 * An Envoy with an authz, like one Pod of the Deployment kura-envoy, in front of a local system's shards. Also the Service in front of such
 * Pods.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import path from 'node:path';
import { CoreV1Api } from '@kubernetes/client-node';
import type { ExecutionContext } from 'ava';
import { credentialFile } from '../../../services/local/credential.ts';
import { pod } from '../../fake-kubernetes/fake-kubernetes.ts';
import { startBootstrapEnvoy } from '../../support/bootstrap-envoy.ts';
import { runProgram } from '../../support/program.ts';
import { type Service, startService, temporaryFolder } from '../../support/service.ts';
import { waitFor } from '../../support/wait.ts';
import type { LocalSystem } from './system.ts';

interface EnvoyPod {
  readonly port: number;
  readonly authz: Service;
  /** The result of the readiness probes. */
  isReady(): Promise<boolean>;
  /** Runs the preStop hook of authz alone, as the kubelet does before it restarts authz. */
  runHook(): Promise<HookResult>;
  /**
   * Terminates like a Pod (envoy/README.md): the API has its deletion, then the preStop hook, then SIGTERM for Envoy, then for authz.
   * Resolves with the result of the hook.
   */
  terminate(): Promise<HookResult>;
}

interface HookResult {
  readonly status: number | null;
  readonly stderr: string;
}

const namespace = 'kura-system';

/** Resolves when the Pod is ready. */
export async function startEnvoyPod(t: ExecutionContext, system: LocalSystem): Promise<EnvoyPod> {
  const folder = await temporaryFolder(t);
  const socket = path.join(folder, 'authz.sock');
  const name = `kura-envoy-${randomUUID()}`;
  const core = system.kubernetes.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod(name, { node: 'node-a' }) });
  const { kubeconfig, eds } = await system.local();
  const authz = await startService('authz', {
    KURA_AUTHZ_LISTEN: `unix:${socket}`,
    KURA_AUTHZ_METRICS_LISTEN: '127.0.0.1:0',
    KURA_AUTHZ_KUBECONFIG: kubeconfig,
    KURA_AUTHZ_CREDENTIAL_FILE: credentialFile(system.stateDirectory),
    KURA_AUTHZ_POD_NAME: name,
  });
  const envoy = await startBootstrapEnvoy({
    folder,
    authzSocket: socket,
    edsPort: Number(eds.address.split(':').at(-1)),
    args: ['--drain-time-s', '60'],
  });
  const isOk = async (url: string): Promise<boolean> =>
    (await fetch(url, { signal: AbortSignal.timeout(2_000) }).catch(() => undefined))?.ok ?? false;
  const isReady = async (): Promise<boolean> =>
    (await isOk(`http://127.0.0.1:${envoy.ports.metrics}/readyz`)) && (await isOk(`http://${authz.listening.metrics}/readyz`));
  t.teardown(async () => {
    await envoy.stop();
    await authz.stop('SIGKILL');
  });
  await waitFor('the Envoy Pod is ready', isReady);
  const runHook = async (): Promise<HookResult> => {
    const args = [`http://127.0.0.1:${envoy.ports.admin}`, '60', `http://${authz.listening.metrics}/ending`];
    const { status, stderr } = await runProgram('services/envoy-drain/main.ts', args);
    return { status, stderr };
  };
  return {
    port: envoy.ports.objects,
    authz,
    isReady,
    runHook,
    terminate: async () => {
      await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 90 });
      const { status, stderr } = await runHook();
      envoy.child.kill('SIGTERM');
      await envoy.exited;
      await authz.stop();
      return { status, stderr };
    },
  };
}

interface TcpService {
  readonly port: number;
  readonly pods: EnvoyPod[];
}

/** Distributes new connections over the Pods that were ready at the last poll, like kube-proxy. Existing connections stay. */
export async function startTcpService(t: ExecutionContext, pods: readonly EnvoyPod[]): Promise<TcpService> {
  const sockets = new Set<Socket>();
  let ready: readonly EnvoyPod[] = [...pods];
  let turn = 0;
  const known = [...pods];
  const poll = async (): Promise<void> => {
    const states = await Promise.all(known.map((pod) => pod.isReady()));
    ready = known.filter((_, index) => states[index]);
  };
  const timer = setInterval(() => void poll(), 200);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    const pod = ready[turn++ % ready.length];
    if (pod === undefined) return void client.destroy();
    const upstream = connect({ port: pod.port, host: '127.0.0.1', allowHalfOpen: true });
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => other.destroy()).on('close', () => sockets.delete(socket));
    }
    client.pipe(upstream).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    clearInterval(timer);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, pods: known };
}
