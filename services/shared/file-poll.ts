/**
 * Reads files again at an interval. Mounted Secrets and ConfigMaps change by links, which a watch on a file does not report, and watch
 * interfaces report the replacements of editors differently. The files are small, so reading costs less than detecting a change.
 */
import { setTimeout as delay } from 'node:timers/promises';

interface FilePollOptions {
  readonly intervalMs: number;
  /** Reads the files and compares them with the previous content. The next call waits until this one ends. */
  readonly reread: () => Promise<void>;
  /** Called with the reason when `reread` rejects: once for each message, and again after a success. */
  readonly onFault: (error: Error) => void;
}

/** Runs until it is closed. Does not keep the process alive. */
export class FilePoll {
  readonly #options: FilePollOptions;
  readonly #stopping = new AbortController();

  constructor(options: FilePollOptions) {
    this.#options = options;
    void this.#run();
  }

  /** A call of `reread` that is still running ends without a report. */
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
