/** A local system whose parts come from two checkouts. The fake Kubernetes API is that of this checkout. */
import path from 'node:path';
import { createCluster, publishShard, workloads } from '../../services/local/cluster.ts';
import type { Console } from '../../services/local/console.ts';
import { createCredential } from '../../services/local/credential.ts';
import { followPolicyFile } from '../../services/local/policy-file.ts';
import { Processes, type Program } from '../../services/local/processes.ts';
import { adminKubeconfig, kubernetesProgram, type ProgramContext, portOf } from '../../services/local/programs.ts';
import { untilReady } from '../../services/local/readiness.ts';
import { keepTokenFiles } from '../../services/local/token-files.ts';
import { connectKubernetes, type KubernetesClient } from '../../services/shared/kubernetes.ts';
import type { Checkout } from './checkout.ts';

export const parts = ['shards', 'eds', 'authz', 'envoy'] as const;
export type Part = (typeof parts)[number];

const shardPods = ['kura-cache-0', 'kura-cache-1', 'kura-cache-2', 'kura-cache-3'];
const shardBytes = 1024 ** 3;
const tokenSeconds = 3_600;
const maxReadyMs = 60_000;

export interface MixedSystem {
  readonly url: string;
  /** Token files by `<namespace>/<ServiceAccount>`. */
  readonly tokens: Readonly<Record<string, string>>;
  /** The last lines of all processes. */
  readonly lines: readonly string[];
  /** Stops a part, and starts that of another checkout in its place: the shards one after the other. */
  replace(part: Part, checkout: Checkout): Promise<void>;
  stop(): Promise<void>;
}

export async function startMixedSystem(options: { stateDirectory: string; checkout: Checkout; root: string }): Promise<MixedSystem> {
  const system = new RunningSystem(options);
  try {
    await system.start(options.checkout);
  } catch (error) {
    await system.stop();
    console.error(system.lines.join(''));
    throw error;
  }
  return system;
}

class RunningSystem implements MixedSystem {
  url = '';
  tokens: Readonly<Record<string, string>> = {};
  readonly #stateDirectory: string;
  readonly #root: string;
  readonly #stopping = new AbortController();
  /** Each process has its own group, so the system can stop it alone. */
  readonly #processes = new Map<string, Processes>();
  readonly lines: string[] = [];
  #client: KubernetesClient | undefined;

  constructor({ stateDirectory, root }: { stateDirectory: string; root: string }) {
    this.#stateDirectory = stateDirectory;
    this.#root = root;
  }

  async start(checkout: Checkout): Promise<void> {
    const stateDirectory = this.#stateDirectory;
    await createCredential(stateDirectory);
    await this.#run(kubernetesProgram(this.#context(this.#root), { tokenSeconds }));
    const client = connectKubernetes({ kubeconfig: adminKubeconfig({ stateDirectory }) });
    this.#client = client;
    await createCluster(client);
    const shared = { client, console: this.#console(), signal: this.#stopping.signal };
    const template = path.join(this.#root, 'k8s', 'base', 'policy.yaml');
    await followPolicyFile({ ...shared, file: path.join(stateDirectory, 'policy.yaml'), template });
    const directory = path.join(stateDirectory, 'tokens');
    this.tokens = await keepTokenFiles({ ...shared, directory, workloads, audience: 'kura', tokenSeconds });
    for (const part of parts) await this.replace(part, checkout);
  }

  async replace(part: Part, checkout: Checkout): Promise<void> {
    const context = this.#context(checkout.root);
    const { programs, envoyBinary: binary } = checkout;
    const socket = path.join(this.#stateDirectory, 'authz.sock');
    switch (part) {
      case 'shards':
        for (const pod of shardPods) await this.#replaceShard(checkout, pod);
        return;
      case 'eds':
        return await this.#run(programs.edsProgram(context));
      case 'authz':
        return await this.#run(programs.authzProgram(context, { socket, cluster: undefined }), 'metrics');
      case 'envoy': {
        // Envoy needs its port again when it is replaced.
        await this.#processes.get('envoy')?.stop();
        const port = this.url === '' ? 0 : Number(new URL(this.url).port);
        await this.#run(await programs.envoyProgram(context, { binary, port, socket }));
        this.url = `http://${this.#address('envoy', 'objects')}`;
      }
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const processes of [...this.#processes.values()].toReversed()) await processes.stop();
    await this.#client?.close();
  }

  async #replaceShard({ root, programs }: Checkout, pod: string): Promise<void> {
    const client = this.#client as KubernetesClient;
    await publishShard(client, { pod, port: undefined, metricsPort: undefined });
    const program = programs.shardProgram(this.#context(root), { pod, hashKey: `${pod}/shard-0`, maxBytes: shardBytes });
    await this.#run(program, 'metrics');
    const port = (name: string): number => portOf(this.#address(pod, name));
    await publishShard(client, { pod, port: port('objects'), metricsPort: port('metrics') });
  }

  /** Replaces the process of this name. `readyAt` names the port of its `/readyz`. */
  async #run(program: Program, readyAt?: string): Promise<void> {
    // The command is made while the address of the process before is known, because some parts keep their ports.
    const command = program.command();
    await this.#processes.get(program.name)?.stop();
    const processes = new Processes({ console: this.#console(), signal: this.#stopping.signal, onChange: () => undefined });
    this.#processes.set(program.name, processes);
    await processes.start({ ...program, command: () => command });
    if (readyAt === undefined) return;
    const url = `http://${this.#address(program.name, readyAt)}/readyz`;
    const reason = await untilReady(url, AbortSignal.timeout(maxReadyMs));
    if (reason !== undefined) throw new Error(`${program.name} is not ready after ${maxReadyMs / 1000} s: ${reason}`);
  }

  #address(name: string, port: string): string | undefined {
    return this.#processes.get(name)?.address(name, port);
  }

  #context(root: string): ProgramContext {
    const processes = { address: (name: string, port: string) => this.#address(name, port) } as Processes;
    const environment = { PATH: process.env.PATH ?? '' };
    return { root, stateDirectory: this.#stateDirectory, environment, settings: {}, processes };
  }

  #console(): Console {
    const keep = (line: string): void => {
      this.lines.push(line);
      if (this.lines.length > 200) this.lines.shift();
    };
    return {
      print: (line) => keep(`${line}\n`),
      follow: (name, output) => void output.on('data', (data) => keep(`${name}: ${data}`)),
    };
  }
}
