/** A whole local system for tests, started like a user starts it, on free ports and in a temporary folder. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { LocalFile } from '../../../services/local/local-file.ts';
import { connectKubernetes, type KubernetesClient } from '../../../services/shared/kubernetes.ts';
import { type Answer, type Call, call } from '../../support/http.ts';
import { readMetric } from '../../support/metrics.ts';
import { waitFor } from '../../support/wait.ts';

export const root = path.resolve(import.meta.dirname, '..', '..', '..');

export interface LocalSystem {
  readonly child: ChildProcess;
  readonly stateDirectory: string;
  /** The output of the system so far. */
  readonly output: () => string;
  /** The current content of local.json. */
  readonly local: () => Promise<LocalFile>;
  readonly token: (workload: string) => Promise<string>;
  readonly kubernetes: KubernetesClient;
  /** Sends a request through Envoy, with the token of the workload `as` if it is set. */
  readonly call: (request: Omit<Call, 'token'> & { as?: string; token?: string }) => Promise<Answer & { bodySent: boolean }>;
  /** Sends a signal to the process with this name in local.json and returns its pid. */
  readonly signal: (name: string, signal: NodeJS.Signals) => Promise<number>;
  /** Waits until the process has another pid than `formerPid`. */
  readonly restarted: (name: string, formerPid: number) => Promise<number>;
  /** Stops the system with SIGINT and removes its folder. */
  readonly stop: () => Promise<void>;
}

/** The sum of a metric over all shards. */
export async function shardMetric(system: LocalSystem, name: string, labels = ''): Promise<number> {
  const { shards } = await system.local();
  const each = await Promise.all(shards.map(({ metricsUrl }) => readMetric(metricsUrl, name, labels)));
  return each.reduce((sum, value) => sum + value, 0);
}

/** Starts the program of `npm start`. Resolves when the system is ready. */
export async function startLocalSystem({
  args = [],
  environment = {},
  stateDirectory,
}: {
  args?: readonly string[];
  /** Added to the environment of the test. */
  environment?: Readonly<Record<string, string>>;
  stateDirectory?: string;
} = {}): Promise<LocalSystem> {
  const state = stateDirectory ?? (await mkdtemp(path.join(tmpdir(), 'kura-e2e-')));
  const main = path.join(root, 'services', 'local', 'main.ts');
  const words = ['--pdeathsig', 'KILL', '--', process.execPath, main, '--state', state, '--port', '0', ...args];
  const child = spawn('setpriv', words, { cwd: root, env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const local = async (): Promise<LocalFile> => JSON.parse(await readFile(path.join(state, 'local.json'), 'utf8')) as LocalFile;

  try {
    await waitFor(
      'the local system is ready',
      async () => {
        if (child.exitCode !== null) return true;
        // The file alone is no proof, because a killed system leaves its file behind.
        return output.includes('kura is ready') && (await local()) !== undefined;
      },
      { withinMs: 60_000 },
    );
    if (child.exitCode !== null) throw new Error(`it exited with status ${child.exitCode}`);
  } catch (error) {
    child.kill('SIGKILL');
    throw new Error(`the local system did not start: ${(error as Error).message}\n${output}`, { cause: error });
  }

  const first = await local();
  const token = async (workload: string): Promise<string> => {
    const file = (await local()).tokens[workload];
    if (file === undefined) throw new Error(`no token file for ${workload}`);
    return (await readFile(file, 'utf8')).trim();
  };
  const kubernetes = connectKubernetes({ kubeconfig: first.kubeconfig });
  const pidOf = async (name: string): Promise<number> => {
    const pid = (await local()).processes[name];
    if (pid === undefined) throw new Error(`no process ${name}`);
    return pid;
  };
  return {
    child,
    stateDirectory: state,
    output: () => output,
    local,
    token,
    kubernetes,
    call: async ({ as, ...request }) => call(first.url, as === undefined ? request : { ...request, token: await token(as) }),
    signal: async (name, signal) => {
      const pid = await pidOf(name);
      process.kill(pid, signal);
      return pid;
    },
    restarted: (name, formerPid) =>
      waitFor(`${name} runs again`, async () => {
        const pid = await pidOf(name);
        return pid !== formerPid && pid;
      }),
    stop: async () => {
      await kubernetes.close();
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGINT');
        await once(child, 'exit');
      }
      await rm(state, { recursive: true, force: true });
    },
  };
}
