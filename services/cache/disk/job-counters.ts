/**
 * The counters of a queue of jobs, in memory that an event loop shares with one thread. The thread ends the jobs in the order in which they
 * were added. The counters are 32-bit numbers that wrap, and a job has the place of its number modulo `maxJobs`.
 */

/** A power of two, because the counters wrap. */
export const maxJobs = 32;
/** The number of the first job: the counters wrap soon after each start, and not first after days. */
export const firstJob = 2 ** 31 - 2 * maxJobs;

/** Places of the counters: jobs that were added, jobs that have ended, whether the event loop waits for an end. */
const [addedAt, endedAt, waitsAt] = [0, 1, 2];
/** Words of the counters at the beginning of the shared memory. */
export const counterWords = 4;

export function placeOf(job: number): number {
  return job & (maxJobs - 1);
}

export function jobAfter(job: number): number {
  return (job + 1) | 0;
}

/** The side of the event loop. */
export class JobCounters {
  readonly #words: Int32Array;
  #added = firstJob;
  /** Jobs that `take` has returned. */
  #taken = firstJob;

  constructor(words: Int32Array) {
    this.#words = words;
    words[addedAt] = firstJob;
    words[endedAt] = firstJob;
  }

  /** Jobs that were added and not taken. */
  get count(): number {
    return (this.#added - this.#taken) | 0;
  }

  /** The place of the next job that is added. */
  get nextPlace(): number {
    return placeOf(this.#added);
  }

  /** The place of the oldest job that was added and not taken. */
  get oldestPlace(): number | undefined {
    return this.count === 0 ? undefined : placeOf(this.#taken);
  }

  /** The places of all of them, the oldest first. */
  get places(): number[] {
    return Array.from({ length: this.count }, (_, at) => placeOf(this.#taken + at));
  }

  add(): void {
    this.#added = jobAfter(this.#added);
  }

  /** Gives the thread all jobs that were added, and wakes it if it waits. */
  wakeThread(): void {
    Atomics.store(this.#words, addedAt, this.#added);
    Atomics.notify(this.#words, addedAt);
  }

  /** Returns the place of the next job that has ended, if there is one. */
  take(): number | undefined {
    if (Atomics.load(this.#words, endedAt) === this.#taken) return undefined;
    const place = placeOf(this.#taken);
    this.#taken = jobAfter(this.#taken);
    return place;
  }

  /** Resolves when a job has ended that `take` has not returned. Returns undefined if one has ended already. */
  nextEnd(): Promise<unknown> | undefined {
    Atomics.store(this.#words, waitsAt, 1);
    const wait = Atomics.waitAsync(this.#words, endedAt, this.#taken);
    return wait.async ? wait.value : undefined;
  }
}

/** The side of the thread: whether the job was added. All jobs before it were. */
export function isAdded(words: Int32Array, job: number): boolean {
  return Atomics.load(words, addedAt) !== job;
}

/** The side of the thread: returns when the job was added. */
export function waitForJob(words: Int32Array, job: number): void {
  while (!isAdded(words, job)) Atomics.wait(words, addedAt, job);
}

/** The side of the thread: the next job has ended. */
export function countEnd(words: Int32Array): void {
  Atomics.add(words, endedAt, 1);
  if (Atomics.exchange(words, waitsAt, 0) === 1) Atomics.notify(words, endedAt);
}
