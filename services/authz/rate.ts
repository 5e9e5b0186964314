/** Pure: how many requests, and how many bytes, a second each namespace may have. */
import type { Limits } from './policy-document.ts';

/** The limit that a namespace has used up, and when it may come back. */
export interface Excess {
  readonly limit: 'requestsPerSecond' | 'bytesPerSecond';
  readonly perSecond: number;
  readonly waitSeconds: number;
}

/** Counts what each namespace has had, by buckets that hold a second's worth. */
export class NamespaceRates {
  readonly #requests: Buckets;
  readonly #bytes: Buckets;

  /** `now` in milliseconds, of a clock that is not put back. */
  constructor({ now }: { now: () => number }) {
    this.#requests = new Buckets(now);
    this.#bytes = new Buckets(now);
  }

  /** Undefined where one more request of the namespace is within its limits: it then counts. */
  admit(
    namespace: string,
    { requestsPerSecond, bytesPerSecond }: Pick<Limits, 'requestsPerSecond' | 'bytesPerSecond'>,
  ): Excess | undefined {
    for (const [limit, buckets, perSecond] of [
      ['bytesPerSecond', this.#bytes, bytesPerSecond],
      ['requestsPerSecond', this.#requests, requestsPerSecond],
    ] as const) {
      const waitSeconds = perSecond === undefined ? 0 : buckets.waitSeconds(namespace, perSecond);
      if (perSecond !== undefined && waitSeconds > 0) return { limit, perSecond, waitSeconds };
    }
    if (requestsPerSecond !== undefined) this.#requests.spend(namespace, 1);
    return undefined;
  }

  /** The bytes of a transfer, which are known only at its end: they are owed, so that the next one waits. */
  transferred(namespace: string, bytes: number): void {
    this.#bytes.spend(namespace, bytes);
  }
}

interface Bucket {
  /** Below 0 where more was had than there was. */
  tokens: number;
  atMs: number;
}

/** Namespaces beyond this, those that asked longest ago, begin anew with a full second. */
const mostNamespaces = 10_000;
/** What is owed beyond this is let go: one huge object must not lock its namespace out for hours. */
const longestWaitSeconds = 60;

class Buckets {
  readonly #now: () => number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Fills evenly, up to a second's worth and at least one; 0 where there is one. */
  waitSeconds(namespace: string, perSecond: number): number {
    const now = this.#now();
    const most = Math.max(1, perSecond);
    const known = this.#buckets.get(namespace);
    const owed = -longestWaitSeconds * perSecond;
    const tokens = known === undefined ? most : Math.min(most, Math.max(owed, known.tokens) + ((now - known.atMs) / 1000) * perSecond);
    this.#buckets.delete(namespace);
    this.#buckets.set(namespace, { tokens, atMs: now });
    if (this.#buckets.size > mostNamespaces) this.#buckets.delete(this.#buckets.keys().next().value as string);
    return Math.max(0, (1 - tokens) / perSecond);
  }

  spend(namespace: string, amount: number): void {
    const bucket = this.#buckets.get(namespace);
    if (bucket !== undefined) bucket.tokens -= amount;
  }
}
