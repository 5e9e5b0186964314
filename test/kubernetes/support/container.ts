/** One container of a Pod as a process in the Pod's network, with its own root folder, user, environment and arguments. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { V1Container, V1Pod } from '@kubernetes/client-node';
import { envoyBinary } from '../../../services/local/envoy-binary.ts';
import { parseQuantity } from '../../../services/shared/quantity.ts';
import { startOf } from './pod-spec.ts';
import { canBecomeOthers } from './user.ts';

const root = path.resolve(import.meta.dirname, '..', '..', '..');
const script = path.join(import.meta.dirname, 'container.sh');

export interface Container {
  readonly name: string;
  readonly pid: number;
  readonly hasEnded: boolean;
  /** Resolves when the process has ended, with its status or the signal that killed it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  kill(signal: NodeJS.Signals): void;
  /** Runs a command inside, as a preStop hook is; resolves with its status. */
  exec(words: readonly string[]): Promise<number | null>;
}

interface ContainerOptions {
  readonly pod: V1Pod;
  readonly container: V1Container;
  /** The Pod's network namespace, a file. */
  readonly network: string;
  /** By the volume's name: the folder that it is. */
  readonly volumes: ReadonlyMap<string, string>;
  readonly resolvConfFile: string;
  /** What a kubelet adds to every environment. */
  readonly given: Readonly<Record<string, string>>;
  /** An empty folder of the container's own. */
  readonly directory: string;
  readonly logFile: string;
}

export async function startContainer(options: ContainerOptions): Promise<Container> {
  const { pod, container, network, directory, logFile } = options;
  await mkdir(directory, { recursive: true });
  const controlGroup = await makeControlGroup(options);
  const { words, directory: workingDirectory, environment } = startOf(pod, container, options.given);
  const env = { ...environment, PATH: '/kura/node_modules/.bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
  const args = [directory, userOf(pod, container), workingDirectory, ...mountsOf(options, controlGroup), '--', ...words];
  const log = openSync(logFile, 'a');
  const child = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', '--', 'nsenter', `--net=${network}`, '--', 'unshare', '--mount', '--', 'sh', script, ...args],
    // A group of its own, which ends with it as a container does with its first process.
    { env, stdio: ['ignore', log, log], detached: true },
  );
  closeSync(log);
  const pid = child.pid as number;
  return {
    name: container.name,
    pid,
    get hasEnded() {
      return child.exitCode !== null || child.signalCode !== null;
    },
    ended: endOf(child, pid),
    kill: (signal) => child.kill(signal),
    exec: async (command) => {
      const inside = ['--target', String(pid), '--net', '--mount', '--root', '--', 'env', '-C', workingDirectory, ...command];
      const hook = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'nsenter', ...inside], { env, stdio: 'ignore' });
      const [status] = (await once(hook, 'exit')) as [number | null];
      return status;
    },
  };
}

async function endOf(child: ChildProcess, group: number): Promise<number | NodeJS.Signals> {
  const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals];
  try {
    process.kill(-group, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
  return status ?? signal;
}

/** What a container sees of its control group (version 2). Envoy reads its memory limit there. No memory is counted. */
async function makeControlGroup({ container, directory }: ContainerOptions): Promise<string> {
  const folder = `${directory}-cgroup`;
  const limit = parseQuantity(container.resources?.limits?.memory ?? '');
  await mkdir(folder);
  await writeFile(path.join(folder, 'memory.max'), `${limit ?? 'max'}\n`);
  await writeFile(path.join(folder, 'memory.current'), '0\n');
  return folder;
}

function mountsOf({ container, volumes, resolvConfFile }: ContainerOptions, controlGroup: string): string[] {
  const mounts = [
    `${root}:/kura:ro`,
    `${envoyBinary({ root, override: process.env.KURA_ENVOY })}:/usr/local/bin/envoy:ro`,
    `${resolvConfFile}:/etc/resolv.conf:ro`,
    `${controlGroup}:/sys/fs/cgroup:ro`,
  ];
  for (const { name, mountPath, readOnly } of container.volumeMounts ?? []) {
    const source = volumes.get(name);
    if (source === undefined) throw new Error(`there is no volume ${name}`);
    mounts.push(`${source}:${mountPath}:${readOnly === true ? 'ro' : 'rw'}`);
  }
  return mounts;
}

function userOf({ spec }: V1Pod, { securityContext }: V1Container): string {
  if (!canBecomeOthers) return '-';
  const user = securityContext?.runAsUser ?? spec?.securityContext?.runAsUser ?? 0;
  const group = securityContext?.runAsGroup ?? spec?.securityContext?.runAsGroup ?? user;
  return `${user}:${group}:${spec?.securityContext?.fsGroup ?? group}`;
}
