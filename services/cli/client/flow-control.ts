/** Limits the concurrent requests of a client while the server returns 429. */
import { setTimeout as delay } from 'node:timers/promises';

/** What the progress line shows. */
export interface FlowState {
  /** The current limit of concurrent requests, and the limit without 429. */
  readonly workers: number;
  readonly maxWorkers: number;
  /** The time until the next request may start; 0 if requests may start now. */
  readonly waitMs: number;
}

export class FlowControl {
  readonly #maxWorkers: number;
  #workers: number;
  #active = 0;
  #accepted = 0;
  #pausedUntil = 0;
  #halvedAt = 0;
  /** At most one entry per worker. */
  readonly #queue: (() => void)[] = [];

  constructor(maxWorkers: number) {
    this.#maxWorkers = maxWorkers;
    this.#workers = maxWorkers;
  }

  get state(): FlowState {
    const waitMs = Math.max(0, this.#pausedUntil - performance.now());
    return { workers: this.#workers, maxWorkers: this.#maxWorkers, waitMs };
  }

  /** Resolves when a request may start. The caller calls `leave` when the request has ended. */
  async enter(signal: AbortSignal): Promise<void> {
    while (this.#active >= this.#workers) {
      const { promise, resolve } = Promise.withResolvers<unknown>();
      this.#queue.push(() => resolve(undefined));
      signal.addEventListener('abort', resolve, { once: true });
      await promise.finally(() => signal.removeEventListener('abort', resolve));
      signal.throwIfAborted();
    }
    this.#active += 1;
    try {
      for (let { waitMs } = this.state; waitMs > 0; { waitMs } = this.state) await delay(waitMs, undefined, { signal });
    } catch (error) {
      this.leave();
      throw error;
    }
  }

  leave(): void {
    this.#active -= 1;
    this.#queue.shift()?.();
  }

  /** A request that started at `startedAt` received 429. Requests that were under way together halve the workers once. */
  throttle({ startedAt, retryAfterMs }: { startedAt: number; retryAfterMs: number }): void {
    const now = performance.now();
    this.#pausedUntil = Math.max(this.#pausedUntil, now + retryAfterMs);
    this.#accepted = 0;
    if (startedAt < this.#halvedAt) return;
    this.#workers = Math.max(1, Math.floor(this.#workers / 2));
    this.#halvedAt = now;
  }

  /** A request passed. After as many passes as workers, one more worker may try. */
  accept(): void {
    this.#accepted += 1;
    if (this.#accepted < this.#workers || this.#workers === this.#maxWorkers) return;
    this.#accepted = 0;
    this.#workers += 1;
    this.#queue.shift()?.();
  }
}
