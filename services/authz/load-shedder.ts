/** Pure: finds the checks that have waited too long, while authz cannot keep up. */

/** Envoy gives a check 1 s. A review takes the most of the rest. */
const maxWaitMs = 300;
const periodMs = 1_000;
/** Fewer checks in a period are no backlog: a client that sends its head slowly looks like one. */
const minChecks = 20;

/**
 * When a check reaches the socket is not visible: a backlog lies in the buffers of Envoy, of the kernel and of HTTP/2. Envoy sends the time at
 * which it received the first byte of the request, so the difference is the wait. authz is behind after a second in which no check arrived
 * in time.
 */
export class LoadShedder {
  readonly #now: () => number;
  #startedAt: number;
  #checks = 0;
  #shortestMs = Number.POSITIVE_INFINITY;
  #isBehind = false;

  /** `now` is the clock of Envoy, in milliseconds since the epoch. */
  constructor({ now }: { now: () => number }) {
    this.#now = now;
    this.#startedAt = now();
  }

  /** Call it once for each check. `receivedAt`: when Envoy received the request; undefined when Envoy does not send it. */
  isLate(receivedAt: number | undefined): boolean {
    if (receivedAt === undefined) return false;
    const now = this.#now();
    const waitedMs = now - receivedAt;
    const elapsedMs = now - this.#startedAt;
    if (elapsedMs < 0 || elapsedMs >= periodMs) {
      // A longer gap had no checks, so it ended every backlog.
      this.#isBehind = elapsedMs >= 0 && elapsedMs < 2 * periodMs && this.#checks >= minChecks && this.#shortestMs > maxWaitMs;
      this.#startedAt = now;
      this.#checks = 0;
      this.#shortestMs = Number.POSITIVE_INFINITY;
    }
    this.#checks++;
    this.#shortestMs = Math.min(this.#shortestMs, waitedMs);
    return this.#isBehind && waitedMs > maxWaitMs;
  }
}
