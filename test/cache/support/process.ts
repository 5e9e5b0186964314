/** A shard as a separate process, which ends with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import type { ListeningMessage } from '../../../services/shared/lifecycle.ts';
import { passedOn } from '../../support/environment.ts';

interface CacheProcess {
  readonly child: ChildProcess;
  readonly listening: Readonly<Record<string, string>>;
  /** All output so far. */
  output(): string;
  /** Resolves with its status, or with null after a signal. */
  readonly ended: Promise<number | null>;
}

const program = path.resolve(import.meta.dirname, '../../../services/cache/main.ts');

/**
 * Starts services/cache/main.ts, optionally with a wrapper command, and waits until it serves. Rejects with its output if it ends earlier.
 */
export async function startCacheProcess(
  t: ExecutionContext,
  environment: Readonly<Record<string, string>>,
  wrapper: readonly string[] = [],
): Promise<CacheProcess> {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...wrapper, process.execPath, program], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      ...passedOn,
      KURA_CACHE_LISTEN: '127.0.0.1:0',
      KURA_CACHE_METRICS_LISTEN: '127.0.0.1:0',
      KURA_CACHE_DRAIN: '0ms',
      KURA_CACHE_CREDENTIAL_FILE: 'off',
      KURA_CACHE_MAX_BYTES: '64Mi',
      KURA_CACHE_MAX_OBJECTS: '20000',
      ...environment,
    },
  });
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (bytes: Buffer) => {
      output += bytes.toString();
    });
  }
  const ended = once(child, 'close').then(([status]) => status as number | null);
  const message = await Promise.race([once(child, 'message').then(([value]) => value as ListeningMessage), ended]);
  if (message === null || typeof message === 'number') throw new Error(`the shard ended with ${message}: ${output}`);
  return { child, listening: message.listening, output: () => output, ended };
}
