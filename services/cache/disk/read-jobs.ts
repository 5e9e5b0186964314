/**
 * A queue of files to read whole, in memory that an event loop shares with one thread. Each job has a slot for its bytes, and keeps it until
 * the last use of the bytes. The place of a job holds the number of its slot.
 */
import { crc32 } from 'node:zlib';
import { countEnd, counterWords, firstJob, isAdded, JobCounters, jobAfter, maxJobs, placeOf, waitForJob } from './job-counters.ts';
import { blockBytes, maxTailBytes, statedLength } from './trailer.ts';

export interface ReadArea {
  readonly control: SharedArrayBuffer;
  readonly bytes: SharedArrayBuffer;
}

export const maxReads = maxJobs;
/** Space before a file in its slot: first for the path, then for a response head. One with a content type of 255 bytes fits. */
export const headRoomBytes = 1024;
const pageBytes = 4096;
/** A body of one block with its trailer. The index knows sizes in blocks of 4 KiB. */
export const maxWholeBytes = pageBytes * Math.ceil((blockBytes + maxTailBytes) / pageBytes);
/** One byte more shows that a file is longer than expected. */
const maxFileBytes = maxWholeBytes + 1;
const slotBytes = pageBytes * Math.ceil((headRoomBytes + maxFileBytes) / pageBytes);

/** Places in `control` after the counters: the slots of the jobs, and the slots. */
const jobsAt = counterWords;
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
  readonly #counters = new JobCounters(this.#control);

  get isEmpty(): boolean {
    return this.#counters.count === 0;
  }

  /** The slot of the oldest job that `takeEnded` has not returned. */
  get oldest(): number | undefined {
    const place = this.#counters.oldestPlace;
    return place === undefined ? undefined : this.#slotAt(place);
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
    this.#control[jobsAt + this.#counters.nextPlace] = slot;
    Atomics.store(this.#control, at + stateAt, added);
    this.#counters.add();
    return slot;
  }

  /** Gives the thread all jobs that were added, and wakes it if it waits. */
  wakeThread(): void {
    this.#counters.wakeThread();
  }

  /** Returns the next job that has ended, if there is one. It frees the slots of jobs that were withdrawn. */
  takeEnded(): ReadResult | undefined {
    for (let place = this.#counters.take(); place !== undefined; place = this.#counters.take()) {
      const slot = this.#slotAt(place);
      const at = slotsAt + slot * slotWords;
      const word = (place: number) => this.#control[at + place] as number;
      if (word(stateAt) === ended) return { slot, errno: word(errnoAt), fd: word(fdAt), got: word(gotAt), sum: word(sumAt) >>> 0 };
      this.free(slot);
    }
    return undefined;
  }

  /** Resolves when a job has ended that `takeEnded` has not returned. Returns undefined if one has ended already. */
  nextEnd(): Promise<unknown> | undefined {
    return this.#counters.nextEnd();
  }

  /** Takes back the jobs that have not ended, and returns their slots. The thread still uses a slot until it has passed the job. */
  withdraw(): number[] {
    const slots = this.#counters.places.map((place) => this.#slotAt(place));
    return slots.filter((slot) => Atomics.compareExchange(this.#control, slotsAt + slot * slotWords + stateAt, added, withdrawn) === added);
  }

  /** The file begins after `headRoomBytes`. */
  buffer(slot: number): Buffer {
    return this.#slots[slot] as Buffer;
  }

  free(slot: number): void {
    this.#free.push(slot);
  }

  #slotAt(place: number): number {
    return this.#control[jobsAt + place] as number;
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
  for (let job = firstJob; ; job = jobAfter(job)) {
    if (job === started) waitForJob(words, job);
    for (; isAdded(words, started); started = jobAfter(started)) startJob(started);
    endJob(job);
    countEnd(words);
  }

  function startJob(job: number): void {
    const slot = words[jobsAt + placeOf(job)] as number;
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
    const slot = words[jobsAt + placeOf(job)] as number;
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
