/** Pure: what a run over many files has come to. */

import { formatPercent } from '../shared/format.ts';
import type { Read } from './file-transfers.ts';

const shownProblems = 5;

export interface Summary {
  readonly objects: number;
  readonly hits: number;
  readonly misses: number;
  readonly differences: number;
  readonly failures: number;
  /** By cause, such as `GET 503`. */
  readonly failuresByKind: Readonly<Record<string, number>>;
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

export class Tally {
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

  summarize(seconds: number): Summary {
    const { hit, miss, difference, failure } = this.#counts;
    const times = Float64Array.from(this.#times).sort();
    const objects = times.length;
    return {
      objects,
      hits: hit,
      misses: miss,
      differences: difference,
      failures: failure,
      failuresByKind: Object.fromEntries(this.#causes),
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

/** No byte differed and no request failed. */
export function isGood({ failures, differences }: Summary): boolean {
  return failures + differences === 0;
}

/** A summary in a line, and a line for each problem that is shown. What a hit and a miss mean, `words` says. */
export function describe(
  label: string,
  { hits, misses, failures, failuresByKind, retries, differences, objects, seconds, bytes, hitRatio, p50Ms, p99Ms, problems }: Summary,
  words: { readonly hits: string; readonly misses: string } = { hits: 'hits', misses: 'misses' },
): string[] {
  const speed = `${Math.round(objects / seconds)} objects/s, ${(bytes / seconds / 1e9).toFixed(2)} GB/s`;
  const times = `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;
  const causes = Object.entries(failuresByKind).map(([cause, count]) => `${count} × ${cause}`);
  const kinds = failures === 0 ? '' : ` (${causes.join(', ')})`;
  const repeated = retries === 0 ? '' : `; ${retries} answers of 503 tried again`;
  const line = `${label}: ${hits} ${words.hits} (${formatPercent(hitRatio)}), ${misses} ${words.misses}, ${failures} failures${kinds}, ${differences} differences; ${speed}; ${times}${repeated}`;
  return [line, ...problems.map((problem) => `  ${problem}`)];
}
