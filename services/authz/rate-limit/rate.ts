/** Pure: limits the requests and the bytes of each namespace per second. */
import assert from 'node:assert/strict';
import type { Rates } from '../policy/document.ts';

/** The exceeded limit, and the time after which the namespace may retry. */
export interface Excess {
  readonly limit: 'requestsPerSecond' | 'bytesPerSecond';
  readonly perSecond: number;
  readonly waitSeconds: number;
}

interface Admission {
  /** How long to delay the response. */
  readonly holdSeconds: number;
  /** Set when the request is refused. */
  readonly excess: Excess | undefined;
}

/**
 * A request that may proceed within this time is delayed. A refusal is delayed by this time too, so a sequential client cannot flood with
 * refused requests. Envoy allows 1 s for the whole check.
 */
const maxHoldSeconds = 0.5;

/** Counts the use of each namespace with token buckets that hold one second's worth. */
export class NamespaceRates {
  readonly #requests: Buckets;
  readonly #bytes: Buckets;

  /** `now` is a monotonic clock in milliseconds. */
  constructor({ now }: { now: () => number }) {
    this.#requests = new Buckets(now);
    this.#bytes = new Buckets(now);
  }

  /** Counts one request of the namespace, unless it is refused. */
  admit(namespace: string, { requestsPerSecond, bytesPerSecond }: Rates): Admission {
    const waits = [
      { limit: 'bytesPerSecond', perSecond: bytesPerSecond, buckets: this.#bytes },
      { limit: 'requestsPerSecond', perSecond: requestsPerSecond, buckets: this.#requests },
    ] as const;
    let holdSeconds = 0;
    for (const { limit, perSecond, buckets } of waits) {
      if (perSecond === undefined) continue;
      const waitSeconds = buckets.waitSeconds(namespace, perSecond);
      if (waitSeconds > maxHoldSeconds) return { holdSeconds: maxHoldSeconds, excess: { limit, perSecond, waitSeconds } };
      holdSeconds = Math.max(holdSeconds, waitSeconds);
    }
    if (requestsPerSecond !== undefined) this.#requests.spend(namespace, 1);
    return { holdSeconds, excess: undefined };
  }

  /** Subtracts the bytes of a transfer. They are known only at its end, so they delay the next requests. */
  transferred(namespace: string, bytes: number): void {
    assert(Number.isSafeInteger(bytes));
    this.#bytes.spend(namespace, bytes);
  }
}

interface Bucket {
  /** Negative after a transfer that used more bytes than the bucket held. */
  tokens: number;
  atMs: number;
}

/** Maximum number of namespaces. Above it, the least recently used one is dropped and starts again with a full bucket. */
const maxNamespaces = 10_000;
/** Debt beyond this time is dropped, so one huge object cannot block its namespace for hours. */
const maxWaitSeconds = 60;

class Buckets {
  readonly #now: () => number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** The bucket refills evenly, up to one second's worth and at least one token. Returns 0 when a token is available. */
  waitSeconds(namespace: string, perSecond: number): number {
    const now = this.#now();
    const maxTokens = Math.max(1, perSecond);
    const known = this.#buckets.get(namespace);
    const refilled = known === undefined ? maxTokens : known.tokens + ((now - known.atMs) / 1000) * perSecond;
    const tokens = Math.min(maxTokens, Math.max(refilled, -maxWaitSeconds * perSecond));
    this.#buckets.delete(namespace);
    this.#buckets.set(namespace, { tokens, atMs: now });
    if (this.#buckets.size > maxNamespaces) this.#buckets.delete(this.#buckets.keys().next().value as string);
    return Math.max(0, (1 - tokens) / perSecond);
  }

  spend(namespace: string, amount: number): void {
    const bucket = this.#buckets.get(namespace);
    if (bucket !== undefined) bucket.tokens -= amount;
  }
}
