/** Runs kubectl, which has the user's cluster, context and login. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { UsageError } from '../usage-error.ts';

const run = promisify(execFile);
const maxCallMs = 30_000;
const maxCloseMs = 3_000;
const maxOutputBytes = 64 * 1024 ** 2;

export interface Forward {
  readonly url: string;
  close(): Promise<void>;
}

export class Kubectl {
  readonly #flags: readonly string[];
  readonly #signal: AbortSignal;

  /** `flags` select cluster and namespace. */
  constructor(flags: readonly string[], signal: AbortSignal) {
    this.#flags = flags;
    this.#signal = signal;
  }

  async text(words: readonly string[]): Promise<string> {
    const options = { maxBuffer: maxOutputBytes, timeout: maxCallMs, signal: this.#signal };
    const { stdout } = await run('kubectl', [...this.#flags, ...words], options).catch((error: Error & { stderr?: string }) => {
      throw fault(error, error.stderr);
    });
    return stdout;
  }

  async json<T>(words: readonly string[]): Promise<T> {
    return JSON.parse(await this.text([...words, '-o', 'json'])) as T;
  }

  /** Forwards any free local port to a port of a Pod. */
  async forward(pod: string, port: number): Promise<Forward> {
    const words = [...this.#flags, 'port-forward', '--address', '127.0.0.1', `pod/${pod}`, `:${port}`];
    const child = spawn('kubectl', words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const close = async (): Promise<void> => {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill();
      const timer = setTimeout(() => child.kill('SIGKILL'), maxCloseMs);
      await ended;
      clearTimeout(timer);
    };
    try {
      return { url: `http://127.0.0.1:${await forwardedPort(child, this.#signal)}`, close };
    } catch (error) {
      await close();
      throw error;
    }
  }
}

/** kubectl prints `Forwarding from 127.0.0.1:40123 -> 9904`. */
async function forwardedPort(child: ChildProcess, signal: AbortSignal): Promise<number> {
  let complaint = '';
  child.stderr?.on('data', (data) => (complaint = `${complaint}${data}`.slice(-1_000)));
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(maxCallMs)]);
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream, signal: deadline });
  const failed = once(child, 'error').then(([error]) => {
    throw fault(error as Error, undefined);
  });
  failed.catch(() => undefined);
  const found = (async () => {
    for await (const line of lines) {
      const port = /^Forwarding from 127\.0\.0\.1:(\d+) /.exec(line)?.[1];
      if (port !== undefined) return Number(port);
    }
    throw new Error(`kubectl port-forward: ${lastLine(complaint) || 'it printed no port within 30 s'}`);
  })();
  const port = await Promise.race([found, failed]);
  // kubectl prints a line for each connection. Nobody reads them, and a full pipe would block it.
  child.stdout?.resume();
  return port;
}

function fault(error: Error, stderr: string | undefined): Error {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new UsageError('kubectl is not in the PATH: install it');
  return new Error(`kubectl: ${lastLine(stderr ?? '') || error.message}`, { cause: error });
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
