/** Starts a service process of kura like `npm start`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ListeningMessage } from '../../services/shared/lifecycle.ts';
import { passedOn } from './environment.ts';

const root = path.resolve(import.meta.dirname, '..', '..');

export interface Service {
  readonly child: ChildProcess;
  readonly listening: Readonly<Record<string, string>>;
  readonly output: () => string;
  /** Resolves with the exit status, or the signal that killed the process. */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** `folder` is a name such as `authz` or `fake-kubernetes`. Rejects with the output if the service exits before it serves. */
export async function startService(folder: string, environment: Readonly<Record<string, string>>): Promise<Service> {
  const main = path.join(root, 'services', folder, 'main.ts');
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, main], {
    env: { ...passedOn, ...environment },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk));
  const message = await Promise.race([
    once(child, 'message', { signal: AbortSignal.timeout(60_000) }).then(([first]) => first as ListeningMessage),
    once(child, 'close').then(() => undefined),
  ]);
  if (message === undefined) throw new Error(`${folder} ended with status ${child.exitCode}:\n${output}`);
  return {
    child,
    listening: message.listening,
    output: () => output,
    stop: async (signal = 'SIGTERM') => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill(signal);
        await once(child, 'exit');
      }
      return child.exitCode ?? (child.signalCode as NodeJS.Signals);
    },
  };
}

/** Creates a folder and removes it after the test. */
export async function temporaryFolder(t: { teardown: (undo: () => Promise<void>) => void }): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
