/** Bounds how many requests are open at one origin. Further requests wait in order, up to a number and a time. Demand goes first. */

/** Of a reader who waits, or of a prefetch job. */
export type Priority = 'demand' | 'prefetch';

interface ConcurrencyLimitOptions {
  readonly max: number;
  /** Of each priority. */
  readonly maxWaiting: number;
  readonly maxWaitMs: number;
  /** Called whenever the last open request has ended. */
  readonly onIdle?: () => void;
}

/** The part of the turns that prefetch jobs can take, so that demand seldom waits for them. */
const prefetchShare = 0.5;

export class ConcurrencyLimit {
  readonly #options: ConcurrencyLimitOptions;
  readonly #waiting = { demand: new Set<() => void>(), prefetch: new Set<() => void>() };
  readonly #open = { demand: 0, prefetch: 0 };

  constructor(options: ConcurrencyLimitOptions) {
    this.#options = options;
  }

  get open(): number {
    return this.#open.demand + this.#open.prefetch;
  }

  /**
   * Resolves to false if there was no turn in time, if too many wait, or if the caller has left. After true, call `leave` once with the
   * same priority.
   */
  async enter(signal: AbortSignal, priority: Priority = 'demand'): Promise<boolean> {
    const { maxWaiting, maxWaitMs } = this.#options;
    const waiting = this.#waiting[priority];
    if (signal.aborted) return false;
    if (this.#hasTurn(priority)) {
      this.#open[priority]++;
      return true;
    }
    if (waiting.size >= maxWaiting) return false;
    return await new Promise((resolve) => {
      const end = (hasTurn: boolean): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', leave);
        waiting.delete(take);
        resolve(hasTurn);
      };
      const take = (): void => end(true);
      const leave = (): void => end(false);
      const timer = setTimeout(leave, maxWaitMs);
      signal.addEventListener('abort', leave);
      waiting.add(take);
    });
  }

  /** Passes the turn to the request that has waited longest, of demand if any waits. */
  leave(priority: Priority = 'demand'): void {
    this.#open[priority]--;
    for (const next of ['demand', 'prefetch'] as const) {
      const [take] = this.#waiting[next];
      if (take === undefined || !this.#hasTurn(next)) continue;
      this.#open[next]++;
      take();
      return;
    }
    if (this.open === 0) this.#options.onIdle?.();
  }

  #hasTurn(priority: Priority): boolean {
    const { max } = this.#options;
    if (this.open >= max) return false;
    return priority === 'demand' || this.#open.prefetch < Math.max(1, Math.floor(max * prefetchShare));
  }
}
