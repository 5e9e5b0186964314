/** One prefetch job: takes its keys, asks the shards for them, and counts. */
import { setTimeout as delay } from 'node:timers/promises';
import { AverageRate } from '../../shared/average-rate.ts';
import { isKey } from '../../shared/key.ts';
import type { ConcurrencyLimit } from '../concurrency-limit.ts';
import type { FailureReason, JobState, Metrics } from '../metrics.ts';
import type { FillCaller, FillClient, FillResult } from './fill-client.ts';
import { type KeyCounts, maxShownKeys } from './key-list.ts';
import type { KeyQueue } from './key-queue.ts';
import { type ListOptions, listKeys } from './key-source.ts';

export interface JobOptions extends ListOptions {
  readonly client: FillClient;
  /** The fills of all jobs. */
  readonly limit: ConcurrencyLimit;
  readonly maxFillsPerJob: number;
  readonly metrics: Metrics;
}

export interface JobRequest extends FillCaller {
  readonly id: string;
  readonly prefix: string;
  readonly queue: KeyQueue;
  /** The keys in the queue. Undefined: the origin lists them. */
  readonly counts: KeyCounts | undefined;
  /** Larger objects are not fetched. */
  readonly maxObjectBytes: number;
}

/** The body of a response. */
export interface JobProgress {
  readonly id: string;
  readonly prefix: string;
  readonly origin: string;
  readonly state: JobState;
  /** Why the job failed. */
  readonly reason?: string;
  /** The origin still lists objects, and `accepted` grows. */
  readonly listing: boolean;
  readonly accepted: number;
  readonly rejected: number;
  readonly dropped: number;
  /** Objects that the job has fetched, and their bytes. */
  readonly objects: number;
  readonly bytes: number;
  /** Objects that were in the cache before. */
  readonly present: number;
  readonly failures: number;
  readonly failuresByReason: Partial<Record<FailureReason, number>>;
  /** The first ones. */
  readonly failedKeys: readonly { readonly key: string; readonly reason: FailureReason }[];
  readonly rejectedKeys: readonly string[];
  /** Over the last 30 s, per second. */
  readonly rate: { readonly objects: number; readonly bytes: number };
  /** Absent before the list is complete and before the first object. */
  readonly etaSeconds?: number;
  readonly startedAt: string;
  readonly endedAt?: string;
}

/** A job that takes longer has failed. Posting it again continues. */
export const maxJobMs = 24 * 3_600_000;
const maxTries = 4;
/** A key whose shard has no room for so long has failed. */
const maxBusyMs = 900_000;
const maxBackoffMs = 30_000;

export class Job {
  readonly #request: JobRequest;
  readonly #options: JobOptions;
  readonly #stop = new AbortController();
  readonly #counts: KeyCounts;
  readonly #failures = new Map<FailureReason, number>();
  readonly #failedKeys: { key: string; reason: FailureReason }[] = [];
  readonly #rate = new AverageRate(performance.now());
  readonly #startedAt = new Date();
  #endedAt: Date | undefined;
  /** The same, as a monotonic time. */
  #endedTick = 0;
  #state: JobState = 'running';
  #reason: string | undefined;
  #isListing: boolean;
  #fetched = { objects: 0, bytes: 0 };
  #present = 0;
  /** Resolves after the last request has ended. */
  readonly ended: Promise<void>;

  constructor(request: JobRequest, options: JobOptions) {
    this.#request = request;
    this.#options = options;
    this.#isListing = request.counts === undefined;
    this.#counts = request.counts ?? { accepted: 0, rejected: 0, dropped: 0, rejectedKeys: [] };
    this.ended = this.#run();
  }

  get state(): JobState {
    return this.#state;
  }

  get request(): JobRequest {
    return this.#request;
  }

  get progress(): JobProgress {
    const { id, prefix, terms } = this.#request;
    const failures = this.#failureCount;
    const rate = this.#rate.perSecond(this.#endedAt === undefined ? performance.now() : this.#endedTick);
    const left = this.#counts.accepted - this.#fetched.objects - this.#present - failures;
    const eta = this.#state !== 'running' || this.#isListing || rate.objects === 0 ? undefined : left / rate.objects;
    return {
      id,
      prefix,
      origin: terms.fill.origin,
      state: this.#state,
      ...(this.#reason === undefined ? {} : { reason: this.#reason }),
      listing: this.#isListing,
      accepted: this.#counts.accepted,
      rejected: this.#counts.rejected,
      dropped: this.#counts.dropped,
      ...this.#fetched,
      present: this.#present,
      failures,
      failuresByReason: Object.fromEntries(this.#failures),
      failedKeys: this.#failedKeys,
      rejectedKeys: this.#counts.rejectedKeys,
      rate,
      ...(eta === undefined ? {} : { etaSeconds: eta }),
      startedAt: this.#startedAt.toISOString(),
      ...(this.#endedAt === undefined ? {} : { endedAt: this.#endedAt.toISOString() }),
    };
  }

  /** The shards finish the objects that they fetch now. */
  stop(): void {
    this.#end('stopped');
  }

  get #failureCount(): number {
    return [...this.#failures.values()].reduce((sum, count) => sum + count, 0);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const timer = setTimeout(
      () => this.#end('failed', `it took longer than ${maxJobMs / 3_600_000} h; post it again to continue`),
      maxJobMs,
    );
    const workers = Array.from({ length: this.#options.maxFillsPerJob }, () => this.#work(signal));
    try {
      await Promise.all([this.#list(signal), ...workers]);
      this.#end('done');
    } catch (error) {
      // The abort ends all workers. `#end` has set the state.
      if (!signal.aborted) this.#end('failed', (error as Error).message);
      await Promise.allSettled(workers);
    } finally {
      clearTimeout(timer);
      this.#request.queue.clear();
    }
  }

  #end(state: JobState, reason?: string): void {
    if (this.#state !== 'running') return;
    this.#state = state;
    this.#reason = reason;
    this.#isListing = false;
    this.#endedAt = new Date();
    this.#endedTick = performance.now();
    this.#options.metrics.jobEnded(state);
    this.#stop.abort();
  }

  /** Ends the job if the list breaks: an incomplete list looks like a short one. */
  async #list(signal: AbortSignal): Promise<void> {
    const { prefix, queue, maxObjectBytes, terms } = this.#request;
    if (this.#isListing) {
      const accept = ({ key, bytes }: { key: string; bytes: number }): boolean => {
        const isAccepted = isKey(key) && bytes <= maxObjectBytes;
        this.#counts[isAccepted ? 'accepted' : 'rejected']++;
        if (!isAccepted && this.#counts.rejectedKeys.length < maxShownKeys) this.#counts.rejectedKeys.push(key);
        return isAccepted;
      };
      const fault = await listKeys({ origin: terms.fill.origin, prefix, queue, accept, signal }, this.#options);
      if (fault !== undefined) return this.#end('failed', fault);
      this.#isListing = false;
    }
    queue.complete();
  }

  async #work(signal: AbortSignal): Promise<void> {
    for (let key = await this.#request.queue.next(signal); key !== undefined; key = await this.#request.queue.next(signal))
      this.#record(key, await this.#fetch(key, signal));
  }

  /** Rejects when the signal aborts. */
  async #fetch(key: string, signal: AbortSignal): Promise<Exclude<FillResult, { kind: 'fault' | 'busy' }>> {
    let tries = 0;
    let [busySince, busyTimes]: [number | undefined, number] = [undefined, 0];
    for (;;) {
      const result = await this.#try(key, signal);
      switch (result.kind) {
        case 'fetched':
        case 'present':
        case 'failed':
          return result;
        case 'busy':
          busySince ??= performance.now();
          if (performance.now() - busySince >= maxBusyMs) return { kind: 'failed', reason: 'busy' };
          await delay(backoff(result.retryAfterMs, busyTimes++), undefined, { signal });
          break;
        case 'fault':
          if (++tries >= maxTries) return { kind: 'failed', reason: result.reason };
          await delay(backoff(result.retryAfterMs, tries - 1), undefined, { signal });
      }
      this.#options.metrics.prefetchRetried(result.kind);
    }
  }

  async #try(key: string, signal: AbortSignal): Promise<FillResult> {
    const { client, limit } = this.#options;
    const hasTurn = await limit.enter(signal);
    signal.throwIfAborted();
    if (!hasTurn) return { kind: 'busy', retryAfterMs: maxBackoffMs };
    try {
      return await client.fill(key, this.#request, signal);
    } finally {
      limit.leave();
    }
  }

  #record(key: string, result: Exclude<FillResult, { kind: 'fault' | 'busy' }>): void {
    const { metrics } = this.#options;
    const { origin } = this.#request.terms.fill;
    if (result.kind === 'failed') {
      this.#failures.set(result.reason, (this.#failures.get(result.reason) ?? 0) + 1);
      if (this.#failedKeys.length < maxShownKeys) this.#failedKeys.push({ key, reason: result.reason });
      metrics.prefetched(origin, result.reason, 0);
    } else {
      if (result.kind === 'present') this.#present++;
      else this.#fetched = { objects: this.#fetched.objects + 1, bytes: this.#fetched.bytes + result.bytes };
      metrics.prefetched(origin, result.kind, result.kind === 'fetched' ? result.bytes : 0);
    }
    this.#rate.add(performance.now(), {
      objects: this.#fetched.objects + this.#present + this.#failureCount,
      bytes: this.#fetched.bytes,
    });
  }
}

/** Doubles with each try. Up to a half is random, so that workers do not retry together. */
function backoff(ms: number, triesBefore: number): number {
  return Math.min(maxBackoffMs, ms * 2 ** triesBefore) * (1 + Math.random() / 2);
}
