/**
 * A queue of files to write or to remove, in memory that an event loop shares with one thread. The thread takes the jobs in their order.
 * The counters of jobs are 32-bit numbers that wrap, and a job uses the slot of its number modulo `maxJobs`.
 */

export interface JobArea {
  readonly control: SharedArrayBuffer;
  readonly bytes: SharedArrayBuffer;
}

/** A power of two, because the counters wrap. */
const maxJobs = 32;
/** The number of the first job: the counters wrap soon after each start, and not first after days. */
const firstJob = 2 ** 31 - 2 * maxJobs;
const slotBytes = 264 * 1024;
/** For both paths of a job. */
const maxPathBytes = 4096;
const maxFileBytes = slotBytes - maxPathBytes;

/** Places in `control`: jobs that were added, jobs that have ended, whether the event loop waits for an end, and the slots. */
const [addedAt, endedAt, waitsAt, slotsAt] = [0, 1, 2, 4];
/** Places in a slot: its state, the error of its job, and the lengths of the paths and of the file. */
const [stateAt, errnoAt, temporaryAt, pathAt, lengthAt, slotWords] = [0, 1, 2, 3, 4, 8];
const [added, begun, withdrawn] = [0, 1, 2];

/** The side of the event loop. */
export class JobQueue {
  readonly area: JobArea = {
    control: new SharedArrayBuffer(4 * (slotsAt + maxJobs * slotWords)),
    bytes: new SharedArrayBuffer(maxJobs * slotBytes),
  };
  readonly #control = new Int32Array(this.area.control);
  readonly #bytes = Buffer.from(this.area.bytes);
  #added = firstJob;
  /** Jobs that `takeEnded` has returned. */
  #taken = firstJob;

  constructor() {
    this.#control[addedAt] = firstJob;
    this.#control[endedAt] = firstJob;
  }

  get isEmpty(): boolean {
    return this.#added === this.#taken;
  }

  get isHalfFull(): boolean {
    return ((this.#added - this.#taken) | 0) >= maxJobs / 2;
  }

  /**
   * Copies a job into its slot and returns the slot. An empty `temporary` means a file to remove. Returns undefined if the job is too large
   * or if the queue is full.
   */
  add(temporary: string, path: string, bytes: Buffer): number | undefined {
    // A character takes at most 3 bytes.
    if (bytes.length > maxFileBytes || 3 * (temporary.length + path.length) > maxPathBytes) return undefined;
    if (((this.#added - this.#taken) | 0) === maxJobs) return undefined;
    const slot = this.#added & (maxJobs - 1);
    const at = slotsAt + slot * slotWords;
    const from = slot * slotBytes;
    const temporaryBytes = this.#bytes.write(temporary, from);
    this.#control[at + temporaryAt] = temporaryBytes;
    this.#control[at + pathAt] = this.#bytes.write(path, from + temporaryBytes);
    this.#control[at + lengthAt] = bytes.copy(this.#bytes, from + maxPathBytes);
    Atomics.store(this.#control, at + stateAt, added);
    this.#added = (this.#added + 1) | 0;
    return slot;
  }

  /** Gives the thread all jobs that were added, and wakes it if it waits. */
  wakeThread(): void {
    Atomics.store(this.#control, addedAt, this.#added);
    Atomics.notify(this.#control, addedAt);
  }

  /** Returns the next job that has ended, if there is one. `errno` is 0 for a job that succeeded or was withdrawn. */
  takeEnded(): { slot: number; errno: number } | undefined {
    if (Atomics.load(this.#control, endedAt) === this.#taken) return undefined;
    const slot = this.#taken & (maxJobs - 1);
    this.#taken = (this.#taken + 1) | 0;
    return { slot, errno: this.#control[slotsAt + slot * slotWords + errnoAt] as number };
  }

  /** Resolves when a job has ended that `takeEnded` has not returned. Returns undefined if one has ended already. */
  nextEnd(): Promise<unknown> | undefined {
    Atomics.store(this.#control, waitsAt, 1);
    const wait = Atomics.waitAsync(this.#control, endedAt, this.#taken);
    return wait.async ? wait.value : undefined;
  }

  /** Takes back the jobs that the thread has not begun, and returns their slots. */
  withdraw(): number[] {
    const slots: number[] = [];
    for (let job = this.#taken; job !== this.#added; job = (job + 1) | 0) {
      const slot = job & (maxJobs - 1);
      const at = slotsAt + slot * slotWords + stateAt;
      if (Atomics.compareExchange(this.#control, at, added, withdrawn) === added) slots.push(slot);
    }
    return slots;
  }
}

/** The side of the thread: calls `write` for each job and never returns. `write` returns 0 or an error number of the system. */
export function runJobs({ control, bytes }: JobArea, write: (temporary: string, path: string, file: Buffer) => number): never {
  const words = new Int32Array(control);
  const buffer = Buffer.from(bytes);
  for (let job = firstJob; ; job = (job + 1) | 0) {
    while (Atomics.load(words, addedAt) === job) Atomics.wait(words, addedAt, job);
    const slot = job & (maxJobs - 1);
    const at = slotsAt + slot * slotWords;
    words[at + errnoAt] = 0;
    if (Atomics.compareExchange(words, at + stateAt, added, begun) === added) {
      const pathsFrom = slot * slotBytes;
      const pathFrom = pathsFrom + (words[at + temporaryAt] as number);
      const temporary = buffer.toString('utf8', pathsFrom, pathFrom);
      const path = buffer.toString('utf8', pathFrom, pathFrom + (words[at + pathAt] as number));
      const from = pathsFrom + maxPathBytes;
      words[at + errnoAt] = write(temporary, path, buffer.subarray(from, from + (words[at + lengthAt] as number)));
    }
    Atomics.add(words, endedAt, 1);
    if (Atomics.exchange(words, waitsAt, 0) === 1) Atomics.notify(words, endedAt);
  }
}
