/** One supervised process: started, watched, started again with back-off when it ends by itself, and stopped for good. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { ListeningMessage } from '../shared/lifecycle.ts';
import type { Console } from './console.ts';

const firstBackOffMs = 200;
const longestBackOffMs = 10_000;
/** A process that served this long starts again without the back-off that earlier ends had built up. */
const healthyAfterMs = 10_000;
const startLimitMs = 30_000;

export interface ProcessOptions {
  readonly name: string;
  /** Asked at each start, so that a restart may use what has changed. */
  readonly command: () => { readonly file: string; readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> };
  /** How to learn that it serves, for a process that does not send `listening` by IPC. Polled until it gives an answer. */
  readonly probe?: () => Promise<Readonly<Record<string, string>> | undefined>;
  readonly onReady?: (ready: { pid: number; listening: Readonly<Record<string, string>> }) => void;
  readonly onExit?: () => void;
  readonly console: Console;
  /** How long it may take to end after SIGTERM before it is killed. */
  readonly stopLimitMs: number;
  /** Ends a start that is under way. */
  readonly signal: AbortSignal;
}

export interface SupervisedProcess {
  readonly name: string;
  /** Undefined while it is not running. */
  readonly pid: number | undefined;
  /** Sends SIGTERM, later SIGKILL, and resolves when the process is gone. It is not started again. */
  stop(): Promise<void>;
}

/** Starts a process and keeps it alive. Resolves when it serves for the first time; rejects when it ends or stays silent for 30 s before that, or `signal` aborts. */
export async function superviseProcess(options: ProcessOptions): Promise<SupervisedProcess> {
  const { name, console } = options;
  const stopping = new AbortController();
  let child: ChildProcess | undefined = launch(options);
  try {
    await ready(child, options);
  } catch (error) {
    await end(child, options.stopLimitMs);
    throw error;
  }
  const supervision = supervise();
  return {
    name,
    get pid() {
      return child?.pid;
    },
    stop: async () => {
      stopping.abort();
      if (child !== undefined) await end(child, options.stopLimitMs);
      await supervision;
    },
  };

  async function supervise(): Promise<void> {
    let backOffMs = firstBackOffMs;
    while (!stopping.signal.aborted) {
      const startedAt = performance.now();
      if (child !== undefined) await exited(child);
      const fate = child === undefined ? 'did not start' : describeEnd(child);
      child = undefined;
      if (stopping.signal.aborted) return;
      options.onExit?.();
      if (performance.now() - startedAt > healthyAfterMs) backOffMs = firstBackOffMs;
      console.say(`${name} ${fate}; starting it again in ${backOffMs} ms`);
      await delay(backOffMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      backOffMs = Math.min(backOffMs * 2, longestBackOffMs);
      if (stopping.signal.aborted) return;
      child = launch(options);
      await ready(child, options).then(
        () => console.say(`${name} is back (pid ${child?.pid})`),
        async (error: Error) => {
          console.say(error.message);
          if (child !== undefined) await end(child, options.stopLimitMs);
        },
      );
    }
  }
}

/**
 * The child is a process group of its own, so that Ctrl-C reaches only the supervisor, which stops the parts in order; and the kernel kills it when the
 * supervisor dies without having stopped it.
 */
function launch({ name, command, console }: ProcessOptions): ChildProcess {
  const { file, args, env } = command();
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', file, ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
  });
  child.on('error', (error) => console.say(`${name}: ${error.message}`));
  if (child.stdout !== null) console.follow(name, child.stdout);
  if (child.stderr !== null) console.follow(name, child.stderr);
  return child;
}

async function ready(child: ChildProcess, { name, probe, onReady, signal }: ProcessOptions): Promise<void> {
  const giveUp = AbortSignal.any([signal, AbortSignal.timeout(startLimitMs)]);
  const serves = probe === undefined ? listeningMessage(child, giveUp) : poll(probe, child, giveUp);
  const listening = await Promise.race([
    serves.catch(() => {
      throw new Error(signal.aborted ? `${name} was stopped while it started` : `${name} was not ready within ${startLimitMs / 1000} s`);
    }),
    exited(child).then(() => {
      throw new Error(`${name} ${describeEnd(child)} before it was ready`);
    }),
  ]);
  onReady?.({ pid: child.pid as number, listening });
}

async function listeningMessage(child: ChildProcess, signal: AbortSignal): Promise<ListeningMessage['listening']> {
  const [message] = (await once(child, 'message', { signal })) as [ListeningMessage];
  return message.listening;
}

async function poll<T>(probe: () => Promise<T | undefined>, child: ChildProcess, signal: AbortSignal): Promise<T> {
  while (!hasEnded(child)) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    await delay(25, undefined, { signal });
  }
  return await new Promise<never>(() => undefined);
}

async function end(child: ChildProcess, limitMs: number): Promise<void> {
  if (hasEnded(child)) return;
  const gone = exited(child);
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
  await gone;
  clearTimeout(timer);
}

async function exited(child: ChildProcess): Promise<void> {
  if (!hasEnded(child)) await once(child, 'exit');
}

/** A child that could not be spawned has no pid and never exits. */
function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

function describeEnd(child: ChildProcess): string {
  return child.signalCode === null ? `ended with status ${child.exitCode ?? 'unknown'}` : `was killed by ${child.signalCode}`;
}
