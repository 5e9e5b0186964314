/**
 * A queue of files to read whole, in memory that an event loop shares with one thread. The thread ends the jobs in their order. The
 * counters of jobs are 32-bit numbers that wrap. Each job has a slot for its bytes, and keeps it until the last use of the bytes.
 */
import { crc32 } from 'node:zlib';
import { blockBytes, maxTailBytes, statedLength } from './trailer.ts';

export interface ReadArea {
  readonly control: SharedArrayBuffer;
  readonly bytes: SharedArrayBuffer;
}

/** A power of two, because the counters wrap. */
export const maxReads = 32;
/** The number of the first job: the counters wrap soon after each start, and not first after days. */
const firstJob = 2 ** 31 - 2 * maxReads;
/** Space before a file in its slot: first for the path, then for a response head. One with a content type of 255 bytes fits. */
export const headRoomBytes = 1024;
const pageBytes = 4096;
/** A body of one block with its trailer. The index knows sizes in blocks of 4 KiB. */
export const maxWholeBytes = pageBytes * Math.ceil((blockBytes + maxTailBytes) / pageBytes);
/** One byte more shows that a file is longer than expected. */
const maxFileBytes = maxWholeBytes + 1;
const slotBytes = pageBytes * Math.ceil((headRoomBytes + maxFileBytes) / pageBytes);

/** Places in `control`: jobs that were added, jobs that have ended, whether the event loop waits for an end, slots of jobs, and slots. */
const [addedAt, endedAt, waitsAt, jobsAt] = [0, 1, 2, 4];
const slotsAt = jobsAt + maxReads;
/** Places in a slot: its state, the lengths of the path and of the file to ask for, and the results. */
const [stateAt, pathAt, askedAt, errnoAt, fdAt, gotAt, sumAt, slotWords] = [0, 1, 2, 3, 4, 5, 6, 8];
const [added, ended, withdrawn] = [0, 1, 2];

export interface ReadResult {
  readonly slot: number;
  /** 0, or the error number of the system. */
  readonly errno: number;
  readonly fd: number;
  readonly got: number;
  /** CRC-32 of the body whose length the trailer states. */
  readonly sum: number;
}

/** The side of the event loop. */
export class ReadQueue {
  readonly area: ReadArea = {
    control: new SharedArrayBuffer(4 * (slotsAt + maxReads * slotWords)),
    bytes: new SharedArrayBuffer(maxReads * slotBytes),
  };
  readonly #control = new Int32Array(this.area.control);
  readonly #slots = slotBuffers(this.area);
  /** The last slot to be freed is the first to be used, because its bytes may still be in the cache of the CPU. */
  readonly #free = Array.from({ length: maxReads }, (_, slot) => slot);
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

  /** The slot of the oldest job that `takeEnded` has not returned. */
  get oldest(): number | undefined {
    return this.isEmpty ? undefined : this.#control[jobsAt + (this.#taken & (maxReads - 1))];
  }

  /** Returns the slot of the job. Returns undefined if the path or the file is too long, or if no slot is free. */
  add(path: string, bytes: number): number | undefined {
    // A character takes at most 3 bytes.
    if (bytes > maxFileBytes || 3 * path.length > headRoomBytes) return undefined;
    const slot = this.#free.pop();
    if (slot === undefined) return undefined;
    const at = slotsAt + slot * slotWords;
    this.#control[at + pathAt] = this.buffer(slot).write(path);
    this.#control[at + askedAt] = bytes;
    this.#control[jobsAt + (this.#added & (maxReads - 1))] = slot;
    Atomics.store(this.#control, at + stateAt, added);
    this.#added = (this.#added + 1) | 0;
    return slot;
  }

  /** Gives the thread all jobs that were added, and wakes it if it waits. */
  wakeThread(): void {
    Atomics.store(this.#control, addedAt, this.#added);
    Atomics.notify(this.#control, addedAt);
  }

  /** Returns the next job that has ended, if there is one. It frees the slots of jobs that were withdrawn. */
  takeEnded(): ReadResult | undefined {
    while (Atomics.load(this.#control, endedAt) !== this.#taken) {
      const slot = this.oldest as number;
      this.#taken = (this.#taken + 1) | 0;
      const at = slotsAt + slot * slotWords;
      const word = (place: number) => this.#control[at + place] as number;
      if (word(stateAt) === ended) return { slot, errno: word(errnoAt), fd: word(fdAt), got: word(gotAt), sum: word(sumAt) >>> 0 };
      this.free(slot);
    }
    return undefined;
  }

  /** Resolves when a job has ended that `takeEnded` has not returned. Returns undefined if one has ended already. */
  nextEnd(): Promise<unknown> | undefined {
    Atomics.store(this.#control, waitsAt, 1);
    const wait = Atomics.waitAsync(this.#control, endedAt, this.#taken);
    return wait.async ? wait.value : undefined;
  }

  /** Takes back the jobs that have not ended, and returns their slots. The thread still uses a slot until it has passed the job. */
  withdraw(): number[] {
    const slots: number[] = [];
    for (let job = this.#taken; job !== this.#added; job = (job + 1) | 0) {
      const slot = this.#control[jobsAt + (job & (maxReads - 1))] as number;
      if (Atomics.compareExchange(this.#control, slotsAt + slot * slotWords + stateAt, added, withdrawn) === added) slots.push(slot);
    }
    return slots;
  }

  /** The file begins after `headRoomBytes`. */
  buffer(slot: number): Buffer {
    return this.#slots[slot] as Buffer;
  }

  free(slot: number): void {
    this.#free.push(slot);
  }
}

/** The calls of the thread. They throw the errors of the system. */
export interface ReadCalls {
  /** Opens a file and starts the read of its first bytes without a wait. */
  start(path: string, bytes: number): number;
  read(fd: number, into: Buffer): number;
  close(fd: number): void;
}

/** The side of the thread: never returns. It starts the reads of all jobs before it waits for the first, so the disk gets them together. */
export function runReads(area: ReadArea, calls: ReadCalls): never {
  const words = new Int32Array(area.control);
  const slots = slotBuffers(area);
  let started = firstJob;
  for (let job = firstJob; ; job = (job + 1) | 0) {
    while (job === started && Atomics.load(words, addedAt) === started) Atomics.wait(words, addedAt, started);
    for (; Atomics.load(words, addedAt) !== started; started = (started + 1) | 0) startJob(started);
    endJob(job);
    Atomics.add(words, endedAt, 1);
    if (Atomics.exchange(words, waitsAt, 0) === 1) Atomics.notify(words, endedAt);
  }

  function startJob(job: number): void {
    const slot = words[jobsAt + (job & (maxReads - 1))] as number;
    const at = slotsAt + slot * slotWords;
    words[at + errnoAt] = 0;
    words[at + fdAt] = -1;
    if (Atomics.load(words, at + stateAt) !== added) return;
    const path = (slots[slot] as Buffer).toString('utf8', 0, words[at + pathAt]);
    words[at + errnoAt] = errnoOf(() => {
      words[at + fdAt] = calls.start(path, words[at + askedAt] as number);
    });
  }

  function endJob(job: number): void {
    const slot = words[jobsAt + (job & (maxReads - 1))] as number;
    const at = slotsAt + slot * slotWords;
    const fd = words[at + fdAt] as number;
    if (fd !== -1 && Atomics.load(words, at + stateAt) === added) {
      const into = (slots[slot] as Buffer).subarray(headRoomBytes, headRoomBytes + (words[at + askedAt] as number));
      words[at + errnoAt] = errnoOf(() => {
        const got = calls.read(fd, into);
        words[at + gotAt] = got;
        words[at + sumAt] = crc32(into.subarray(0, statedLength(into.subarray(0, got))));
      });
    }
    const isTaken = Atomics.compareExchange(words, at + stateAt, added, ended) === added;
    if (fd !== -1 && (!isTaken || words[at + errnoAt] !== 0)) calls.close(fd);
  }
}

function errnoOf(call: () => void): number {
  try {
    call();
    return 0;
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    // Not an error of the system: the thread ends, and the event loop learns of it.
    if (errno === undefined) throw error;
    return errno;
  }
}

function slotBuffers({ bytes }: ReadArea): Buffer[] {
  return Array.from({ length: maxReads }, (_, slot) => Buffer.from(bytes, slot * slotBytes, slotBytes));
}
