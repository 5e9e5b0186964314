/**
 * Reads files again at an interval. Mounted Secrets and ConfigMaps change by links that no watch on a file reports, and editors replace files in ways that watch
 * interfaces report differently. The files are small, so reading costs less than finding out whether they changed.
 */
import { setTimeout as delay } from 'node:timers/promises';

interface FilePollOptions {
  readonly intervalMs: number;
  /** Reads the files and compares them with what it read before. The next call waits for its end. */
  readonly reread: () => Promise<void>;
  /** Gets the reason why `reread` rejected: once for each message, and again after a success in between. */
  readonly onFault: (error: Error) => void;
}

/** Runs until it is closed and does not keep the process alive. */
export class FilePoll {
  readonly #options: FilePollOptions;
  readonly #stopping = new AbortController();

  constructor(options: FilePollOptions) {
    this.#options = options;
    void this.#run();
  }

  /** A call of `reread` that is under way ends without a report. */
  close(): void {
    this.#stopping.abort();
  }

  async #run(): Promise<void> {
    const { intervalMs, reread, onFault } = this.#options;
    const { signal } = this.#stopping;
    let reported: string | undefined;
    for (;;) {
      await delay(intervalMs, undefined, { ref: false, signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await reread();
        reported = undefined;
      } catch (error) {
        const { message } = error as Error;
        if (message !== reported && !signal.aborted) onFault(error as Error);
        reported = message;
      }
    }
  }
}
