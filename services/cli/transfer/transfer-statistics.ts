/** Pure: counts, times and errors of a transfer of many files. */

import { formatBytes, formatCount, formatPercent } from '../../shared/format.ts';
import type { TransferResult } from './file-transfer.ts';

const maxShownProblems = 5;

export interface Summary {
  /** The objects of the whole run. `objects` is smaller if the run was interrupted. */
  readonly total: number;
  readonly objects: number;
  readonly hits: number;
  readonly misses: number;
  readonly differences: number;
  readonly failures: number;
  /** By cause, such as `GET 503`. */
  readonly failuresByKind: Readonly<Record<string, number>>;
  /** Requests that were sent again, after 429, 503 or a connection failure. */
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

  summarize({ total, seconds }: { total: number; seconds: number }): Summary {
    const { hit, miss, difference, failure } = this.#counts;
    const times = Float64Array.from(this.#times).sort();
    const objects = times.length;
    return {
      total,
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

/** Names the outcomes of a command. A command that compares no bytes has no `differences`. */
export interface Labels {
  readonly hits: string;
  readonly misses: string;
  readonly differences?: string;
}

/** Formats a summary as one line, and one more line for each shown problem. */
export function describe(label: string, summary: Summary, labels: Labels): string[] {
  const { total, hits, misses, failures, failuresByKind, retries, differences, objects, seconds, bytes, hitRatio } = summary;
  const isComplete = objects === total;
  const causes = Object.entries(failuresByKind).map(([cause, count]) => `${formatCount(count)} × ${cause}`);
  const outcomes = [
    // A ratio of a part of the files would look like the ratio of all.
    `${formatCount(hits)} ${labels.hits}${isComplete ? ` (${formatPercent(hitRatio)})` : ''}`,
    `${formatCount(misses)} ${labels.misses}`,
    `${formatCount(failures)} failures${failures === 0 ? '' : ` (${causes.join(', ')})`}`,
    ...(labels.differences === undefined ? [] : [`${formatCount(differences)} ${labels.differences}`]),
  ];
  const start = isComplete ? '' : `interrupted: ${formatCount(objects)} of ${formatCount(total)} files: `;
  const speed = `${formatCount(Math.round(objects / seconds))} objects/s, ${formatBytes(bytes / seconds)}/s`;
  const times = `p50 ${summary.p50Ms.toFixed(1)} ms, p99 ${summary.p99Ms.toFixed(1)} ms`;
  const retried = retries === 0 ? '' : `; ${formatCount(retries)} retries`;
  const line = `${label}: ${start}${outcomes.join(', ')}; ${speed}; ${times}${retried}`;
  return [line, ...summary.problems.map((problem) => `  ${problem}`)];
}
