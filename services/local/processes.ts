/** The processes of a local system: starts them, keeps their addresses, stops them in order. */
import { type ChildReady, describeEnd, SupervisedChild, type SuperviseOptions } from '../shared/supervise.ts';
import type { Console } from './console.ts';

const maxStartMs = 30_000;
const maxStopMs = 5_000;
const backoff = { firstMs: 200, maxMs: 10_000, stableMs: 10_000 };

export interface Program extends Pick<SuperviseOptions, 'name' | 'command' | 'probe'> {
  readonly onReady?: (ready: ChildReady) => void;
  readonly onExit?: () => void;
}

export class Processes {
  readonly #console: Console;
  readonly #onChange: () => void;
  readonly #signal: AbortSignal;
  readonly #running: { readonly name: string; readonly child: SupervisedChild }[] = [];
  readonly #ready = new Map<string, ChildReady>();

  /** `onChange` is called whenever a process begins to serve. `signal` cancels starts that are in progress. */
  constructor({ console, onChange, signal }: { console: Console; onChange: () => void; signal: AbortSignal }) {
    this.#console = console;
    this.#onChange = onChange;
    this.#signal = signal;
  }

  /** Starts a program and restarts it when it exits. Resolves when it serves. */
  async start({ name, command, probe, onReady, onExit }: Program): Promise<void> {
    const console = this.#console;
    const child = new SupervisedChild({
      name,
      command,
      ...(probe === undefined ? {} : { probe }),
      output: 'pipe',
      // Ctrl-C reaches only this process, which stops the others in order.
      hasOwnGroup: true,
      backoff,
      maxStartMs,
      maxStopMs,
      signal: this.#signal,
      onLaunch: ({ stdout, stderr }) => {
        for (const stream of [stdout, stderr]) if (stream !== null) console.follow(name, stream);
      },
      onReady: (ready) => {
        this.#ready.set(name, ready);
        onReady?.(ready);
        this.#onChange();
        if (ready.isRestart) console.print(`${name} is ready again (pid ${ready.pid})`);
      },
      onEnd: (end) => {
        onExit?.();
        console.print(`${name} ${describeEnd(end)}; starting it again in ${end.backoffMs} ms`);
      },
      onFault: (error) => console.print(error.message),
    });
    await child.start({ mustServe: true });
    this.#running.push({ name, child });
  }

  /** The current or last address of a process; undefined before it served for the first time. */
  address(name: string, port: string): string | undefined {
    return this.#ready.get(name)?.listening[port];
  }

  /** The process ids by name, each from the last time the process began to serve. */
  pids(): Record<string, number> {
    return Object.fromEntries([...this.#ready].map(([name, { pid }]) => [name, pid]));
  }

  /** Stops all processes: Envoy first and the API last, because the others need the API for a clean shutdown. */
  async stop(): Promise<void> {
    const rank = (name: string): number => (name === 'envoy' ? 0 : name === 'kubernetes' ? 2 : 1);
    for (const current of [0, 1, 2])
      await Promise.all(this.#running.filter(({ name }) => rank(name) === current).map(({ child }) => child.stop()));
  }
}
