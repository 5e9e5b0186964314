/** Supervises one child process: starts it, restarts it with back-off after it ends, and stops it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { ListeningMessage } from './lifecycle.ts';

export interface ChildReady {
  readonly pid: number;
  readonly listening: ListeningMessage['listening'];
  /** False for the first start. */
  readonly isRestart: boolean;
}

export interface ChildEnd {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Time until the next start. */
  readonly backoffMs: number;
}

export interface SuperviseOptions {
  /** Appears in errors. */
  readonly name: string;
  /** Called before each start, so a restart can use changed values. */
  readonly command: () => {
    readonly file: string;
    readonly args: readonly string[];
    readonly env: Readonly<Record<string, string | undefined>>;
  };
  /** `pipe`: `onLaunch` reads the output. */
  readonly output: 'inherit' | 'pipe';
  /** Whether the child has a separate process group. Ctrl-C in the terminal then does not reach it. */
  readonly hasOwnGroup: boolean;
  /** Doubled after each consecutive end, up to `maxMs`. A child that served for `stableMs` resets it. */
  readonly backoff: { readonly firstMs: number; readonly maxMs: number; readonly stableMs: number };
  /** A child that does not serve within this time is stopped; undefined = no limit. */
  readonly maxStartMs: number | undefined;
  /** A child that still runs this long after SIGTERM is killed. */
  readonly maxStopMs: number;
  /** Detects that a child serves when it sends no `listening` message over IPC. Called until it resolves with a value. */
  readonly probe?: () => Promise<ListeningMessage['listening'] | undefined>;
  /** Cancels a running start. */
  readonly signal?: AbortSignal;
  readonly onLaunch?: (child: ChildProcess) => void;
  readonly onReady: (ready: ChildReady) => void;
  readonly onEnd: (end: ChildEnd) => void;
  /** Called when the child cannot be launched, or when it ended or was too slow before it served. It starts again. */
  readonly onFault: (error: Error) => void;
}

const probeEveryMs = 25;

export class SupervisedChild {
  readonly #options: SuperviseOptions;
  readonly #stopping = new AbortController();
  #child: ChildProcess | undefined;
  /** When the child began to serve; undefined before. */
  #servedFrom: number | undefined;
  #supervision: Promise<void> = Promise.resolve();

  constructor(options: SuperviseOptions) {
    this.#options = options;
  }

  /** Undefined while the child does not run. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /**
   * Starts the child and resolves when it serves for the first time. When it does not serve and `mustServe` is true, the promise rejects
   * and no process remains. Otherwise the promise resolves, and the child starts again later.
   */
  async start({ mustServe }: { mustServe: boolean }): Promise<void> {
    try {
      await this.#launch({ isRestart: false });
    } catch (error) {
      if (mustServe) {
        this.#stopping.abort();
        await this.#end();
        throw error;
      }
      this.#options.onFault(error as Error);
      await this.#end();
    }
    this.#supervision = this.#supervise();
  }

  /** Sends SIGTERM, and SIGKILL after the limit. Resolves when the process has ended. It does not start again. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#end();
    await this.#supervision;
  }

  async #supervise(): Promise<void> {
    const { backoff, onEnd, onFault } = this.#options;
    const { signal } = this.#stopping;
    let ends = 0;
    while (!signal.aborted) {
      const child = this.#child;
      if (child !== undefined) await exited(child);
      this.#child = undefined;
      if (signal.aborted) return;
      const isStable = this.#servedFrom !== undefined && performance.now() - this.#servedFrom > backoff.stableMs;
      ends = isStable ? 1 : ends + 1;
      const backoffMs = Math.min(backoff.firstMs * 2 ** (ends - 1), backoff.maxMs);
      onEnd({ status: child?.exitCode ?? null, signal: child?.signalCode ?? null, backoffMs });
      await delay(backoffMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      await this.#launch({ isRestart: true }).catch(async (error: Error) => {
        if (!signal.aborted) onFault(error);
        await this.#end();
      });
    }
  }

  /** Resolves when the child serves. The kernel kills the child if this process ends without stopping it. */
  async #launch({ isRestart }: { isRestart: boolean }): Promise<void> {
    const { name, command, output, hasOwnGroup, onLaunch, onReady, onFault } = this.#options;
    const { file, args, env } = command();
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', file, ...args], {
      env,
      stdio: ['ignore', output, output, 'ipc'],
      detached: hasOwnGroup,
    });
    this.#child = child;
    this.#servedFrom = undefined;
    child.on('error', (error) => onFault(new Error(`${name}: cannot start setpriv (util-linux): ${error.message}`, { cause: error })));
    onLaunch?.(child);
    const listening = await this.#serves(child);
    this.#servedFrom = performance.now();
    onReady({ pid: child.pid as number, listening, isRestart });
  }

  async #serves(child: ChildProcess): Promise<ListeningMessage['listening']> {
    const { name, probe, maxStartMs, signal } = this.#options;
    const deadline = new AbortController();
    const timer = maxStartMs === undefined ? undefined : setTimeout(() => deadline.abort(), maxStartMs);
    const giveUp = signal === undefined ? deadline.signal : AbortSignal.any([signal, deadline.signal]);
    const serves = probe === undefined ? listeningMessage(child, giveUp) : poll(probe, child, giveUp);
    try {
      return await Promise.race([
        serves.catch((error: Error) => {
          if (!giveUp.aborted) throw error;
          const reason = signal?.aborted ? 'was stopped while it started' : `was not ready within ${(maxStartMs ?? 0) / 1000} s`;
          throw new Error(`${name} ${reason}`);
        }),
        exited(child).then(() => {
          throw new Error(`${name} ${describeEnd({ status: child.exitCode, signal: child.signalCode })} before it was ready`);
        }),
      ]);
    } finally {
      clearTimeout(timer);
      // Ends the wait for a message or a probe after the child has ended.
      deadline.abort();
    }
  }

  async #end(): Promise<void> {
    const child = this.#child;
    if (child === undefined || hasEnded(child)) return;
    const gone = exited(child);
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), this.#options.maxStopMs);
    await gone;
    clearTimeout(timer);
  }
}

export function describeEnd({ status, signal }: Pick<ChildEnd, 'status' | 'signal'>): string {
  return signal === null ? `ended with status ${status ?? 'unknown'}` : `was killed by ${signal}`;
}

async function listeningMessage(child: ChildProcess, signal: AbortSignal): Promise<ListeningMessage['listening']> {
  const [message] = (await once(child, 'message', { signal })) as [ListeningMessage];
  return message.listening;
}

async function poll<T>(probe: () => Promise<T | undefined>, child: ChildProcess, signal: AbortSignal): Promise<T> {
  while (!hasEnded(child)) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    await delay(probeEveryMs, undefined, { signal });
  }
  // Never resolves: the race in the caller ends with the child's exit.
  return await new Promise<never>(() => undefined);
}

async function exited(child: ChildProcess): Promise<void> {
  if (!hasEnded(child)) await once(child, 'exit');
}

/** A child that could not be spawned has no pid and never exits. */
function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}
