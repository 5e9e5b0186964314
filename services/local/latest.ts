/** Publishes a value that changes: always the newest value, one attempt at a time, with retries until it succeeds. */
import type { Console } from './console.ts';
import { untilDone } from './retry.ts';

interface LatestOptions<T> {
  /** Names the value in the line that reports a failure. */
  readonly what: string;
  readonly publish: (value: T) => Promise<void>;
  readonly console: Console;
  /** Stops publishing. */
  readonly signal: AbortSignal;
}

export function publishLatest<T>(options: LatestOptions<T>): LatestPublisher<T> {
  return new LatestPublisher(options);
}

export class LatestPublisher<T> {
  readonly #options: LatestOptions<T>;
  /** Undefined when the newest value is published. */
  #pending: { readonly value: T } | undefined;
  #work: Promise<void> = Promise.resolve();
  #isWorking = false;

  constructor(options: LatestOptions<T>) {
    this.#options = options;
  }

  set(value: T): void {
    this.#pending = { value };
    if (!this.#isWorking) this.#work = this.#drain();
  }

  /** Resolves when the newest value is published. */
  settled(): Promise<void> {
    return this.#work;
  }

  async #drain(): Promise<void> {
    const { what, console, signal } = this.#options;
    this.#isWorking = true;
    while (this.#pending !== undefined && !signal.aborted) {
      await untilDone({
        attempt: () => this.#publishPending(),
        report: (error) => console.print(`cannot publish ${what}: ${error.message.split('\n', 1)[0]}; retrying`),
        signal,
      });
    }
    this.#isWorking = false;
  }

  async #publishPending(): Promise<void> {
    const taken = this.#pending as { readonly value: T };
    await this.#options.publish(taken.value);
    if (this.#pending === taken) this.#pending = undefined;
  }
}
