/** Pure: how many requests, and how many bytes, a second each namespace may have. */
import assert from 'node:assert/strict';
import type { Rates } from '../policy/document.ts';

/** The limit that a namespace has used up, and when it may come back. */
export interface Excess {
  readonly limit: 'requestsPerSecond' | 'bytesPerSecond';
  readonly perSecond: number;
  readonly waitSeconds: number;
}

interface Admission {
  /** How long the answer is held back. */
  readonly holdSeconds: number;
  /** Where it is a refusal. */
  readonly excess: Excess | undefined;
}

/**
 * A request whose turn comes within this time waits for it; one that is refused waits as long, so that who asks one request after the other cannot flood with
 * refusals. Envoy gives the whole check 1 s.
 */
const maxHoldSeconds = 0.5;

/** Counts what each namespace has had, by buckets that hold a second's worth. */
export class NamespaceRates {
  readonly #requests: Buckets;
  readonly #bytes: Buckets;

  /** `now` in milliseconds, of a clock that is not put back. */
  constructor({ now }: { now: () => number }) {
    this.#requests = new Buckets(now);
    this.#bytes = new Buckets(now);
  }

  /** Counts one more request of the namespace, unless it is refused. */
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

  /** The bytes of a transfer, which are known only at its end: they are owed, so that the next one waits. */
  transferred(namespace: string, bytes: number): void {
    assert(Number.isSafeInteger(bytes));
    this.#bytes.spend(namespace, bytes);
  }
}

interface Bucket {
  /** Below 0 where more was had than there was. */
  tokens: number;
  atMs: number;
}

/** Namespaces beyond this, those that asked longest ago, begin anew with a full second. */
const maxNamespaces = 10_000;
/** What is owed beyond this is let go: one huge object must not lock its namespace out for hours. */
const maxWaitSeconds = 60;

class Buckets {
  readonly #now: () => number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Fills evenly, up to a second's worth and at least one; 0 where there is one. */
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
