/** The prefetch jobs of this replica: those that run, and for a time those that have ended. */
import { randomBytes } from 'node:crypto';
import type { Logger } from '../../shared/log.ts';
import { formatCaller } from '../../shared/signed-terms.ts';
import { ConcurrencyLimit } from '../concurrency-limit.ts';
import { Job, type JobOptions, type JobRequest, maxJobMs } from './job.ts';
import { KeyQueue } from './key-queue.ts';

interface JobsOptions extends Omit<JobOptions, 'limit'> {
  /** Of all jobs. */
  readonly maxFills: number;
  readonly maxJobs: number;
  readonly maxJobsPerNamespace: number;
  /** Of the keys that a job holds in memory. */
  readonly maxKeysBytes: number;
  /** How long a job that has ended is kept, in milliseconds. */
  readonly jobRetention: number;
  readonly log: Logger;
}

/** A place for one more job. Use it once, or release it. */
interface Slot {
  readonly queue: KeyQueue;
  start(request: Omit<JobRequest, 'id' | 'queue'>): Job;
  release(): void;
}

/** Beyond it, the oldest job that has ended is forgotten. */
const maxEnded = 1_000;
const idBytes = 16;

export class Jobs {
  readonly #options: JobsOptions;
  readonly #limit: ConcurrencyLimit;
  readonly #byId = new Map<string, Job>();
  /** Jobs that run or are about to start, by namespace. */
  readonly #taken = new Map<string, number>();
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(options: JobsOptions) {
    this.#options = options;
    // A key waits at most as long as its job lives.
    this.#limit = new ConcurrencyLimit({
      max: options.maxFills,
      maxWaiting: options.maxJobs * options.maxFillsPerJob,
      maxWaitMs: maxJobMs,
    });
  }

  /** Returns the problem if there is no place. */
  reserve(namespace: string): Slot | 'too-many-jobs' | 'no-place-for-job' {
    const { maxJobs, maxJobsPerNamespace, maxKeysBytes } = this.#options;
    const ofNamespace = this.#taken.get(namespace) ?? 0;
    const all = [...this.#taken.values()].reduce((sum, count) => sum + count, 0);
    if (ofNamespace >= maxJobsPerNamespace) return 'too-many-jobs';
    if (all >= maxJobs) return 'no-place-for-job';
    this.#taken.set(namespace, ofNamespace + 1);
    const queue = new KeyQueue({ maxBytes: maxKeysBytes });
    return { queue, start: (request) => this.#start({ ...request, queue }), release: () => this.#release(namespace) };
  }

  /** A job is visible only under its prefix. */
  find(id: string, prefix: string): Job | undefined {
    const job = this.#byId.get(id);
    return job?.request.prefix === prefix ? job : undefined;
  }

  /** Stops all jobs. */
  async close(): Promise<void> {
    const jobs = [...this.#byId.values()];
    for (const job of jobs) job.stop();
    await Promise.all(jobs.map(({ ended }) => ended));
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #start(request: Omit<JobRequest, 'id'>): Job {
    const id = randomBytes(idBytes).toString('base64url');
    this.#options.metrics.jobStarted();
    const job = new Job({ ...request, id }, { ...this.#options, limit: this.#limit });
    this.#byId.set(id, job);
    void job.ended.then(() => this.#ended(job));
    return job;
  }

  #ended(job: Job): void {
    const { log, jobRetention } = this.#options;
    const { id, prefix, origin, state, reason, objects, bytes, present, failures } = job.progress;
    this.#release(job.request.caller.namespace);
    const caller = formatCaller(job.request.caller);
    log.info({ job: shortId(id), prefix, origin, caller, state, reason, objects, bytes, present, failures }, 'a prefetch job has ended');
    const timer = setTimeout(() => {
      this.#byId.delete(id);
      this.#timers.delete(timer);
    }, jobRetention);
    this.#timers.add(timer);
    const ended = [...this.#byId.values()].filter(({ state: each }) => each !== 'running');
    for (const { request } of ended.slice(0, -maxEnded)) this.#byId.delete(request.id);
  }

  #release(namespace: string): void {
    const left = (this.#taken.get(namespace) ?? 0) - 1;
    if (left > 0) this.#taken.set(namespace, left);
    else this.#taken.delete(namespace);
  }
}

/** For logs: who knows the whole id can stop the job. */
export function shortId(id: string): string {
  return id.slice(0, 8);
}
