/** The processes of a local system by name: started, found again by their addresses, stopped in order. */
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

  /** `onChange` is called whenever a process serves, for the first time or again; `signal` ends starts that are under way. */
  constructor({ console, onChange, signal }: { console: Console; onChange: () => void; signal: AbortSignal }) {
    this.#console = console;
    this.#onChange = onChange;
    this.#signal = signal;
  }

  /** Starts a program and keeps it alive; resolves when it serves. */
  async start(program: Program): Promise<void> {
    const supervised = await superviseProcess({
      ...program,
      console: this.#console,
      stopLimitMs,
      signal: this.#signal,
      onReady: (news) => {
        this.#ready.set(program.name, news);
        program.onReady?.(news);
        this.#onChange();
      },
    });
    this.#running.push(supervised);
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
    const rank = ({ name }: SupervisedProcess): number => (name === 'envoy' ? 0 : name === 'kubernetes' ? 2 : 1);
    for (const turn of [0, 1, 2])
      await Promise.all(this.#running.filter((process) => rank(process) === turn).map((process) => process.stop()));
  }
}
