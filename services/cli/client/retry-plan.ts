/** When a request is retried: after 503 with back-off, after 429 when the server allows it, after a connection failure for 10 s. */
import type { RawResponse } from './continue-put.ts';

const maxTriesWith503 = 4;
const firstBackoffMs = 200;
/** kura asks for at most 60 s at a time. A request that is throttled for longer than this in all has failed. */
const maxThrottledMs = 600_000;
const defaultRetryAfterMs = 1_000;
/** Envoy and its Service need a few seconds for a restart. */
export const maxOutageMs = 10_000;
const maxOutageBackoffMs = 1_000;

/** `waitMs` is the time before the next try. */
type NextStep =
  | { readonly kind: 'done' }
  | { readonly kind: 'retry'; readonly waitMs: number }
  | { readonly kind: 'throttled'; readonly retryAfterMs: number };

/** The retries of one request. `now` is a monotonic time in milliseconds. */
export class RetryPlan {
  #triesWith503 = 0;
  #faults = 0;
  #throttledSince: number | undefined;
  #failingSince: number | undefined;

  afterResponse({ statusCode, headers }: Pick<RawResponse, 'statusCode' | 'headers'>, now: number): NextStep {
    this.#failingSince = undefined;
    if (statusCode === 429) {
      this.#throttledSince ??= now;
      const retryAfterMs = readRetryAfter(headers['retry-after']);
      return now + retryAfterMs - this.#throttledSince > maxThrottledMs ? { kind: 'done' } : { kind: 'throttled', retryAfterMs };
    }
    if (statusCode !== 503 || ++this.#triesWith503 >= maxTriesWith503) return { kind: 'done' };
    return { kind: 'retry', waitMs: jittered(firstBackoffMs * 2 ** (this.#triesWith503 - 1)) };
  }

  /** The time before the next try; undefined when the connection has failed for too long. */
  afterFault(now: number): number | undefined {
    this.#failingSince ??= now;
    if (now - this.#failingSince >= maxOutageMs) return undefined;
    return jittered(Math.min(maxOutageBackoffMs, firstBackoffMs * 2 ** this.#faults++));
  }

  /** When the connection failures began; undefined if the last try had a response. */
  get failingSince(): number | undefined {
    return this.#failingSince;
  }
}

/** Between half of `ms` and `ms`, so that workers do not retry at the same time. */
function jittered(ms: number): number {
  return ms * (0.5 + Math.random() / 2);
}

/** Seconds or a date. https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3 */
function readRetryAfter(value: string | string[] | undefined): number {
  const text = String(value);
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) && ms > 0 ? ms : defaultRetryAfterMs;
}
