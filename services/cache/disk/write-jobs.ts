/** A queue of files to write or to remove, in memory that an event loop shares with one thread. The slot of a job is its place. */
import { countEnd, counterWords, firstJob, JobCounters, jobAfter, maxJobs, placeOf, waitForJob } from './job-counters.ts';

export interface JobArea {
  readonly control: SharedArrayBuffer;
  readonly bytes: SharedArrayBuffer;
}

const slotBytes = 264 * 1024;
/** For both paths of a job. */
const maxPathBytes = 4096;
const maxFileBytes = slotBytes - maxPathBytes;

/** Places in a slot: its state, the error of its job, and the lengths of the paths and of the file. */
const [stateAt, errnoAt, temporaryAt, pathAt, lengthAt, slotWords] = [0, 1, 2, 3, 4, 8];
const [added, begun, withdrawn] = [0, 1, 2];

/** The side of the event loop. */
export class JobQueue {
  readonly area: JobArea = {
    control: new SharedArrayBuffer(4 * (counterWords + maxJobs * slotWords)),
    bytes: new SharedArrayBuffer(maxJobs * slotBytes),
  };
  readonly #control = new Int32Array(this.area.control);
  readonly #bytes = Buffer.from(this.area.bytes);
  readonly #counters = new JobCounters(this.#control);

  get isEmpty(): boolean {
    return this.#counters.count === 0;
  }

  get isHalfFull(): boolean {
    return this.#counters.count >= maxJobs / 2;
  }

  /**
   * Copies a job into its slot and returns the slot. An empty `temporary` means a file to remove. Returns undefined if the job is too large
   * or if the queue is full.
   */
  add(temporary: string, path: string, bytes: Buffer): number | undefined {
    // A character takes at most 3 bytes.
    if (bytes.length > maxFileBytes || 3 * (temporary.length + path.length) > maxPathBytes) return undefined;
    if (this.#counters.count === maxJobs) return undefined;
    const slot = this.#counters.nextPlace;
    const at = counterWords + slot * slotWords;
    const from = slot * slotBytes;
    const temporaryBytes = this.#bytes.write(temporary, from);
    this.#control[at + temporaryAt] = temporaryBytes;
    this.#control[at + pathAt] = this.#bytes.write(path, from + temporaryBytes);
    this.#control[at + lengthAt] = bytes.copy(this.#bytes, from + maxPathBytes);
    Atomics.store(this.#control, at + stateAt, added);
    this.#counters.add();
    return slot;
  }

  /** Gives the thread all jobs that were added, and wakes it if it waits. */
  wakeThread(): void {
    this.#counters.wakeThread();
  }

  /** Returns the next job that has ended, if there is one. `errno` is 0 for a job that succeeded or was withdrawn. */
  takeEnded(): { slot: number; errno: number } | undefined {
    const slot = this.#counters.take();
    if (slot === undefined) return undefined;
    return { slot, errno: this.#control[counterWords + slot * slotWords + errnoAt] as number };
  }

  /** Resolves when a job has ended that `takeEnded` has not returned. Returns undefined if one has ended already. */
  nextEnd(): Promise<unknown> | undefined {
    return this.#counters.nextEnd();
  }

  /** Takes back the jobs that the thread has not begun, and returns their slots. */
  withdraw(): number[] {
    return this.#counters.places.filter(
      (slot) => Atomics.compareExchange(this.#control, counterWords + slot * slotWords + stateAt, added, withdrawn) === added,
    );
  }
}

/** The side of the thread: calls `write` for each job and never returns. `write` returns 0 or an error number of the system. */
export function runJobs({ control, bytes }: JobArea, write: (temporary: string, path: string, file: Buffer) => number): never {
  const words = new Int32Array(control);
  const buffer = Buffer.from(bytes);
  for (let job = firstJob; ; job = jobAfter(job)) {
    waitForJob(words, job);
    const slot = placeOf(job);
    const at = counterWords + slot * slotWords;
    words[at + errnoAt] = 0;
    if (Atomics.compareExchange(words, at + stateAt, added, begun) === added) {
      const pathsFrom = slot * slotBytes;
      const pathFrom = pathsFrom + (words[at + temporaryAt] as number);
      const temporary = buffer.toString('utf8', pathsFrom, pathFrom);
      const path = buffer.toString('utf8', pathFrom, pathFrom + (words[at + pathAt] as number));
      const from = pathsFrom + maxPathBytes;
      words[at + errnoAt] = write(temporary, path, buffer.subarray(from, from + (words[at + lengthAt] as number)));
    }
    countEnd(words);
  }
}
