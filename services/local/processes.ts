/** The processes of a local system: starts them, keeps their addresses, stops them in order. */
import type { Console } from './console.ts';
import { type ProcessOptions, type SupervisedProcess, superviseProcess } from './process.ts';

const stopLimitMs = 5_000;

interface Ready {
  readonly pid: number;
  readonly listening: Readonly<Record<string, string>>;
}

export type Program = Pick<ProcessOptions, 'name' | 'command' | 'probe'> & Partial<Pick<ProcessOptions, 'onReady' | 'onExit'>>;

export class Processes {
  readonly #console: Console;
  readonly #onChange: () => void;
  readonly #signal: AbortSignal;
  readonly #running: SupervisedProcess[] = [];
  readonly #ready = new Map<string, Ready>();

  /** `onChange` is called whenever a process begins to serve. `signal` cancels starts that are in progress. */
  constructor({ console, onChange, signal }: { console: Console; onChange: () => void; signal: AbortSignal }) {
    this.#console = console;
    this.#onChange = onChange;
    this.#signal = signal;
  }

  /** Starts a program and restarts it when it exits. Resolves when it serves. */
  async start(program: Program): Promise<void> {
    const supervised = await superviseProcess({
      ...program,
      console: this.#console,
      stopLimitMs,
      signal: this.#signal,
      onReady: (ready) => {
        this.#ready.set(program.name, ready);
        program.onReady?.(ready);
        this.#onChange();
      },
    });
    this.#running.push(supervised);
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
    const rank = ({ name }: SupervisedProcess): number => (name === 'envoy' ? 0 : name === 'kubernetes' ? 2 : 1);
    for (const current of [0, 1, 2])
      await Promise.all(this.#running.filter((process) => rank(process) === current).map((process) => process.stop()));
  }
}
