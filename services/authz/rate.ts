/** Pure: how many requests a second each namespace may make. */

interface Bucket {
  tokens: number;
  atMs: number;
}

/** Namespaces beyond this, those that asked longest ago, begin anew with a full second. */
const mostNamespaces = 10_000;

/** A bucket for each namespace that holds a second's requests, at least one, and fills evenly. */
export class RequestRates {
  readonly #now: () => number;
  readonly #buckets = new Map<string, Bucket>();

  /** `now` in milliseconds, of a clock that is not put back. */
  constructor({ now }: { now: () => number }) {
    this.#now = now;
  }

  /** Whether one more request of the namespace is within its rate; it counts if so. */
  take(namespace: string, perSecond: number): boolean {
    const now = this.#now();
    const most = Math.max(1, perSecond);
    const known = this.#buckets.get(namespace);
    const tokens = known === undefined ? most : Math.min(most, known.tokens + ((now - known.atMs) / 1000) * perSecond);
    const isWithin = tokens >= 1;
    this.#buckets.delete(namespace);
    this.#buckets.set(namespace, { tokens: isWithin ? tokens - 1 : tokens, atMs: now });
    if (this.#buckets.size > mostNamespaces) this.#buckets.delete(this.#buckets.keys().next().value as string);
    return isWithin;
  }
}
