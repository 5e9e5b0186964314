/** Pure: what an epoch has come to. */
import type { Read } from './read-through.ts';

const shownProblems = 5;

export interface EpochSummary {
  readonly objects: number;
  readonly hits: number;
  readonly misses: number;
  readonly differences: number;
  readonly failures: number;
  /** By cause, such as `GET 503`. */
  readonly failuresByKind: ReadonlyMap<string, number>;
  /** Answers of 503 after which a request was made again. */
  readonly retries: number;
  readonly seconds: number;
  readonly bytes: number;
  /** Hits of all that was read, 0 to 1. */
  readonly hitRatio: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The first few differences and failures. */
  readonly problems: readonly string[];
}

export class EpochTally {
  readonly #counts = { hit: 0, miss: 0, difference: 0, failure: 0 };
  readonly #causes = new Map<string, number>();
  readonly #problems: string[] = [];
  readonly #times: number[] = [];
  #bytes = 0;
  #retries = 0;

  add(outcome: Read, { name, size, tookMs }: { name: string; size: number; tookMs: number }): void {
    this.#counts[outcome.kind]++;
    this.#retries += outcome.retries;
    if (outcome.kind === 'failure') this.#causes.set(outcome.cause, (this.#causes.get(outcome.cause) ?? 0) + 1);
    this.#times.push(tookMs);
    if (outcome.kind === 'hit' || outcome.kind === 'miss') this.#bytes += size;
    else if (this.#problems.length < shownProblems) this.#problems.push(`${outcome.kind}: ${name}: ${outcome.detail}`);
  }

  get objects(): number {
    return this.#times.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  summarize(seconds: number): EpochSummary {
    const { hit, miss, difference, failure } = this.#counts;
    const times = Float64Array.from(this.#times).sort();
    const objects = times.length;
    return {
      objects,
      hits: hit,
      misses: miss,
      differences: difference,
      failures: failure,
      failuresByKind: this.#causes,
      retries: this.#retries,
      seconds,
      bytes: this.#bytes,
      hitRatio: objects === 0 ? 0 : hit / objects,
      p50Ms: percentile(times, 0.5),
      p99Ms: percentile(times, 0.99),
      problems: this.#problems,
    };
  }
}

/** The smallest value that at least the share `at` of all are not above (nearest rank); 0 of nothing. */
export function percentile(sorted: Float64Array, at: number): number {
  return sorted[Math.max(0, Math.ceil(at * sorted.length) - 1)] ?? 0;
}

/**
 * The hit ratio that a second epoch can have where a share `cached` of the data fits, with every epoch in a new order under LRU:
 * c + (1 − c)·ln(1 − c) (facts/cache.md).
 */
export function possibleHitRatio(cached: number): number {
  if (cached >= 1) return 1;
  return cached + (1 - cached) * Math.log(1 - cached);
}
