/** Pure: counts, times and errors of a transfer of many files. */

import { formatPercent } from '../../shared/format.ts';
import type { TransferResult } from './file-transfer.ts';

const maxShownProblems = 5;

export interface Summary {
  readonly objects: number;
  readonly hits: number;
  readonly misses: number;
  readonly differences: number;
  readonly failures: number;
  /** By cause, such as `GET 503`. */
  readonly failuresByKind: Readonly<Record<string, number>>;
  /** Requests that were retried after a 503 response. */
  readonly retries: number;
  readonly seconds: number;
  readonly bytes: number;
  /** Hits divided by objects, 0 to 1. */
  readonly hitRatio: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The first few differences and failures. */
  readonly problems: readonly string[];
}

export class TransferStatistics {
  readonly #counts = { hit: 0, miss: 0, difference: 0, failure: 0 };
  readonly #causes = new Map<string, number>();
  readonly #problems: string[] = [];
  readonly #times: number[] = [];
  #bytes = 0;
  #retries = 0;

  add(result: TransferResult, { name, size, tookMs }: { name: string; size: number; tookMs: number }): void {
    this.#counts[result.kind]++;
    this.#retries += result.retries;
    if (result.kind === 'failure') this.#causes.set(result.cause, (this.#causes.get(result.cause) ?? 0) + 1);
    this.#times.push(tookMs);
    if (result.kind === 'hit' || result.kind === 'miss') this.#bytes += size;
    else if (this.#problems.length < maxShownProblems) this.#problems.push(`${result.kind}: ${name}: ${result.detail}`);
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

/** The nearest-rank percentile: the smallest value that is not below the share `at` of all values. 0 if there are no values. */
export function percentile(sorted: Float64Array, at: number): number {
  return sorted[Math.max(0, Math.ceil(at * sorted.length) - 1)] ?? 0;
}

/**
 * The expected hit ratio of the second epoch if the share `cached` of the data fits, each epoch has a new random order, and eviction is
 * LRU: c + (1 − c)·ln(1 − c).
 */
export function expectedHitRatio(cached: number): number {
  if (cached >= 1) return 1;
  return cached + (1 - cached) * Math.log(1 - cached);
}

/** Whether all bytes were identical and no request failed. */
export function isSuccess({ failures, differences }: Summary): boolean {
  return failures + differences === 0;
}

/** Formats a summary as one line, and one more line for each shown problem. `labels` names hits and misses. */
export function describe(
  label: string,
  { hits, misses, failures, failuresByKind, retries, differences, objects, seconds, bytes, hitRatio, p50Ms, p99Ms, problems }: Summary,
  labels: { readonly hits: string; readonly misses: string } = { hits: 'hits', misses: 'misses' },
): string[] {
  const speed = `${Math.round(objects / seconds)} objects/s, ${(bytes / seconds / 1e9).toFixed(2)} GB/s`;
  const times = `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;
  const causes = Object.entries(failuresByKind).map(([cause, count]) => `${count} × ${cause}`);
  const kinds = failures === 0 ? '' : ` (${causes.join(', ')})`;
  const retried = retries === 0 ? '' : `; ${retries} retries after 503`;
  const cached = `${hits} ${labels.hits} (${formatPercent(hitRatio)}), ${misses} ${labels.misses}`;
  const failed = `${failures} failures${kinds}, ${differences} differences`;
  return [`${label}: ${cached}, ${failed}; ${speed}; ${times}${retried}`, ...problems.map((problem) => `  ${problem}`)];
}
