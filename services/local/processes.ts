/** The processes of a local system by name: started, found again by their addresses, stopped in order. */
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

  /** `onChange` is called whenever a process serves, for the first time or again; `signal` ends starts that are under way. */
  constructor({ console, onChange, signal }: { console: Console; onChange: () => void; signal: AbortSignal }) {
    this.#console = console;
    this.#onChange = onChange;
    this.#signal = signal;
  }

  /** Starts a program and keeps it alive; resolves when it serves. */
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
        if (ready.isRestart) console.say(`${name} is back (pid ${ready.pid})`);
      },
      onEnd: (end) => {
        onExit?.();
        console.say(`${name} ${describeEnd(end)}; starting it again in ${end.backoffMs} ms`);
      },
      onFault: (error) => console.say(error.message),
    });
    await child.start({ mustServe: true });
    this.#running.push({ name, child });
  }

  /** Where a process listens, or listened last; undefined before it ever served. */
  address(name: string, port: string): string | undefined {
    return this.#ready.get(name)?.listening[port];
  }

  /** By name, as they were when each last served. */
  pids(): Record<string, number> {
    return Object.fromEntries([...this.#ready].map(([name, { pid }]) => [name, pid]));
  }

  /** Stops all: Envoy first and the API last, so that nobody loses what it still needs for a clean end. */
  async stop(): Promise<void> {
    const rank = (name: string): number => (name === 'envoy' ? 0 : name === 'kubernetes' ? 2 : 1);
    for (const turn of [0, 1, 2])
      await Promise.all(this.#running.filter(({ name }) => rank(name) === turn).map(({ child }) => child.stop()));
  }
}
