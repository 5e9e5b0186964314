/**
 * A real Kubernetes control plane on the loopback interface: etcd, kube-apiserver and kube-controller-manager, without containers. There is no kubelet, scheduler
 * or kube-proxy: a test makes Nodes, binds Pods and patches their status itself. All state is under one folder; several planes can run side by side.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Agent, request } from 'undici';
import { stringify } from 'yaml';
import { freePorts } from '../../../services/local/free-ports.ts';
import { waitFor } from '../../support/wait.ts';

export const kubernetesVersion = '1.36.3';
/** Where scripts/test-kubernetes.ts has the binaries built. */
export const binariesDirectory = path.resolve(import.meta.dirname, '..', '..', '..', '.tools', `kubernetes-${kubernetesVersion}`);

const defaultControllers = [
  'endpointslice-controller',
  'serviceaccount-controller',
  'root-ca-certificate-publisher-controller',
  'namespace-controller',
  'garbage-collector-controller',
  'deployment-controller',
  'replicaset-controller',
  'statefulset-controller',
  'daemonset-controller',
  'disruption-controller',
];

type PlanePart = 'etcd' | 'apiserver' | 'controllers';

interface PlaneOptions {
  /** An empty folder; it holds the state, the logs and `admin.kubeconfig`. */
  readonly directory: string;
  readonly controllers?: readonly string[];
  /** Admission plugins that are off; by default that of ServiceAccounts, so that a Pod needs none. */
  readonly disableAdmission?: string;
  readonly apiserverArguments?: readonly string[];
  /** Where the API server listens; the loopback unless Pods have to reach it. */
  readonly address?: string;
}

export interface Plane {
  readonly url: string;
  /** The administrator's. */
  readonly kubeconfig: string;
  /** PEM; it signs ServiceAccount tokens. */
  readonly signingKeyFile: string;
  pid(part: PlanePart): number;
  /** Sends a signal to one part, and waits for its end where that is what the signal does. */
  signal(part: PlanePart, signal: NodeJS.Signals): Promise<void>;
  /** Starts a part that was killed, on its old ports and state; resolves when it serves. */
  start(part: PlanePart): Promise<void>;
  /** Kills every part. */
  stop(): Promise<void>;
}

/** Starts all three; rejects with the end of a log when one does not come up. About 4 s, 400 MB of memory. */
export async function startPlane(options: PlaneOptions): Promise<Plane> {
  const { directory, address = '127.0.0.1' } = options;
  const [apiPort, etcdPort, peerPort] = (await freePorts(3)) as [number, number, number];
  const file = (name: string): string => path.join(directory, name);
  const url = `https://${address}:${apiPort}`;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const adminToken = randomBytes(24).toString('hex');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await writeFile(file('sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }), { mode: 0o600 });
  await writeFile(file('tokens.csv'), `${adminToken},admin,1,"system:masters"\n`, { mode: 0o600 });

  const commands: Record<PlanePart, () => readonly [string, readonly string[]]> = {
    etcd: () => ['etcd', etcdArguments({ directory, etcdPort, peerPort })],
    apiserver: () => ['kube-apiserver', apiserverArguments({ ...options, address, apiPort, etcdPort })],
    controllers: () => ['kube-controller-manager', controllerArguments({ ...options, kubeconfig: file('admin.kubeconfig') })],
  };
  const running = new Map<PlanePart, ChildProcess>();

  const start = async (part: PlanePart): Promise<void> => {
    const [binary, args] = commands[part]();
    const words = ['--pdeathsig', 'KILL', '--', path.join(binariesDirectory, binary), ...args];
    const child = spawn('setpriv', words, { stdio: ['ignore', 'pipe', 'pipe'] });
    running.set(part, child);
    for (const stream of [child.stdout, child.stderr]) stream.pipe(createWriteStream(file(`${part}.log`), { flags: 'a' }));
    if (part !== 'apiserver') return;
    try {
      await ready(url, child);
    } catch (cause) {
      const log = await readFile(file('apiserver.log'), 'utf8').catch(() => '');
      throw new Error(`kube-apiserver did not start:\n${log.split('\n').slice(-15).join('\n')}`, { cause });
    }
  };
  const signal: Plane['signal'] = async (part, name) => {
    const child = running.get(part);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(name);
    if (name === 'SIGKILL' || name === 'SIGTERM') await ended;
  };
  const stop = async (): Promise<void> => {
    for (const part of ['controllers', 'apiserver', 'etcd'] as const) await signal(part, 'SIGKILL');
  };
  try {
    await start('etcd');
    await start('apiserver');
    // The file holds the serving certificate and the authority that signed it.
    const authority = await readFile(file('certs/apiserver.crt'), 'utf8');
    await writeFile(file('admin.kubeconfig'), kubeconfigOf({ url, authority, token: adminToken }), { mode: 0o600 });
    await start('controllers');
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    kubeconfig: file('admin.kubeconfig'),
    signingKeyFile: file('sa.key'),
    pid: (part) => running.get(part)?.pid as number,
    signal,
    start,
    stop,
  };
}

/** Waits on `/readyz`: the port is open long before. */
async function ready(url: string, child: ChildProcess): Promise<void> {
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
  try {
    const isUp = await waitFor(
      'kube-apiserver is ready',
      async () => {
        if (child.exitCode !== null || child.signalCode !== null) return 'ended';
        const { statusCode, body } = await request(`${url}/readyz`, { dispatcher, signal: AbortSignal.timeout(2_000) });
        await body.dump();
        return statusCode === 200 && 'ready';
      },
      { everyMs: 100 },
    );
    if (isUp === 'ended') throw new Error(`it ended with ${child.exitCode ?? child.signalCode}`);
  } finally {
    await dispatcher.destroy();
  }
}

function etcdArguments({ directory, etcdPort, peerPort }: { directory: string; etcdPort: number; peerPort: number }): string[] {
  const [client, peer] = [`http://127.0.0.1:${etcdPort}`, `http://127.0.0.1:${peerPort}`];
  return [
    '--name=test',
    `--data-dir=${path.join(directory, 'etcd')}`,
    // Nothing here has to survive a power failure.
    '--unsafe-no-fsync',
    '--log-level=warn',
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=test=${peer}`,
  ];
}

function apiserverArguments({
  directory,
  address,
  apiPort,
  etcdPort,
  disableAdmission = 'ServiceAccount',
  apiserverArguments: own = [],
}: PlaneOptions & { address: string; apiPort: number; etcdPort: number }): string[] {
  const key = path.join(directory, 'sa.key');
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    `--cert-dir=${path.join(directory, 'certs')}`,
    `--bind-address=${address}`,
    `--advertise-address=${address}`,
    `--secure-port=${apiPort}`,
    '--service-cluster-ip-range=10.96.0.0/16',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${key}`,
    `--service-account-signing-key-file=${key}`,
    `--token-auth-file=${path.join(directory, 'tokens.csv')}`,
    '--authorization-mode=RBAC',
    '--endpoint-reconciler-type=none',
    `--disable-admission-plugins=${disableAdmission}`,
    '--allow-privileged=true',
    '--profiling=false',
    ...own,
  ];
}

function controllerArguments({ directory, kubeconfig, controllers = defaultControllers }: PlaneOptions & { kubeconfig: string }): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    '--leader-elect=false',
    '--secure-port=0',
    `--service-account-private-key-file=${path.join(directory, 'sa.key')}`,
    `--root-ca-file=${path.join(directory, 'certs/apiserver.crt')}`,
    '--kube-api-qps=200',
    '--kube-api-burst=400',
    `--controllers=${controllers.join(',')}`,
  ];
}

function kubeconfigOf({ url, authority, token }: { url: string; authority: string; token: string }): string {
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server: url, 'certificate-authority-data': Buffer.from(authority).toString('base64') } }],
    users: [{ name: 'admin', user: { token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin' } }],
    'current-context': 'test',
  });
}
