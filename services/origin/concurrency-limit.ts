/** Bounds how many requests are open at one origin. Further requests wait in order, up to a number and a time. */

interface ConcurrencyLimitOptions {
  readonly max: number;
  readonly maxWaiting: number;
  readonly maxWaitMs: number;
  /** Called whenever the last open request has ended. */
  readonly onIdle?: () => void;
}

export class ConcurrencyLimit {
  readonly #options: ConcurrencyLimitOptions;
  readonly #waiting = new Set<() => void>();
  #open = 0;

  constructor(options: ConcurrencyLimitOptions) {
    this.#options = options;
  }

  get open(): number {
    return this.#open;
  }

  /** Resolves to false if there was no turn in time, if too many wait, or if the caller has left. After true, call `leave` once. */
  async enter(signal: AbortSignal): Promise<boolean> {
    const { max, maxWaiting, maxWaitMs } = this.#options;
    if (signal.aborted) return false;
    if (this.#open < max) {
      this.#open++;
      return true;
    }
    if (this.#waiting.size >= maxWaiting) return false;
    return await new Promise((resolve) => {
      const end = (hasTurn: boolean): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', leave);
        this.#waiting.delete(take);
        resolve(hasTurn);
      };
      const take = (): void => end(true);
      const leave = (): void => end(false);
      const timer = setTimeout(leave, maxWaitMs);
      signal.addEventListener('abort', leave);
      this.#waiting.add(take);
    });
  }

  /** Passes the turn to the request that has waited longest. */
  leave(): void {
    const [next] = this.#waiting;
    if (next !== undefined) next();
    else if (--this.#open === 0) this.#options.onIdle?.();
  }
}
