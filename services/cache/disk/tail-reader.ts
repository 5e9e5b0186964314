/**
 * Reads the ends of many files in threads. In the thread pool of Node, each open and each read wakes a thread and then the event loop. Here
 * the reads of one turn of the event loop are a few messages for each thread. The threads start with the first read and end when nobody
 * reads.
 */
import { Worker } from 'node:worker_threads';

/** A disk with a cold cache serves two readers almost twice as fast as one. More would take the disk from the requests. */
const threadCount = 2;
const maxWaiting = 1_024;
/** An answer shows that a slow disk does not hang, so a message has few files. */
const maxMessageFiles = 8;
/** If a thread does not answer in this time, a file hangs. */
const defaultMaxStallMs = 1_000;
const idleMs = 10_000;

interface TailReaderOptions {
  /** A test replaces the program of the threads, and the limit. */
  readonly program?: URL;
  readonly maxStallMs?: number;
  /** A thread has ended early. From now on `read` resolves with undefined. */
  readonly onFail: (error: unknown) => void;
}

export interface TailRead {
  readonly path: string;
  readonly position: number;
  readonly length: number;
}

/** What a thread returns: all bytes without gaps, and the length of each part; -1 for a file that it could not read. */
export interface TailsRead {
  readonly bytes: Uint8Array;
  readonly lengths: readonly number[];
}

interface Waiting extends TailRead {
  readonly resolve: (tail: Buffer | undefined) => void;
}

interface Thread {
  readonly worker: Worker;
  /** Messages without an answer, in their order. */
  readonly sent: (readonly Waiting[])[];
  /** When the last answer came, or when the first of these messages was sent. */
  movedMs: number;
}

export class TailReader {
  readonly #program: URL;
  readonly #maxStallMs: number;
  readonly #onFail: (error: unknown) => void;
  /** Reads of this turn of the event loop. */
  #turn: Waiting[] = [];
  #waiting = 0;
  #threads: Thread[] = [];
  /** Threads that must end. A thread that hangs in the disk has not ended, and no others start. */
  #ending = 0;
  #timer: NodeJS.Timeout | undefined;
  #usedMs = 0;
  #isClosed = false;

  constructor({ program, maxStallMs = defaultMaxStallMs, onFail }: TailReaderOptions) {
    this.#program = program ?? new URL('./tail-reader-thread.ts', import.meta.url);
    this.#maxStallMs = maxStallMs;
    this.#onFail = onFail;
  }

  /**
   * Opens a file, reads up to `length` bytes and closes it. Resolves with undefined if it could not: the caller then reads the file itself,
   * and finds the reason. Does not reject.
   */
  async read(path: string, position: number, length: number): Promise<Buffer | undefined> {
    if (this.#isClosed || this.#ending > 0 || this.#waiting >= maxWaiting) return undefined;
    this.#waiting += 1;
    if (this.#turn.length === 0) setImmediate(() => this.#send());
    return await new Promise((resolve) => this.#turn.push({ path, position, length, resolve }));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const isIdle = this.#waiting === 0;
    const ended = this.#stop();
    // A thread that hangs in the disk cannot end.
    if (isIdle) await ended;
  }

  #send(): void {
    const reads = this.#turn;
    this.#turn = [];
    if (this.#isClosed || this.#ending > 0) {
      this.#settle(reads);
      return;
    }
    this.#start();
    this.#usedMs = performance.now();
    const size = Math.min(maxMessageFiles, Math.ceil(reads.length / this.#threads.length));
    for (let from = 0; from < reads.length; from += size) {
      const thread = this.#threads[(from / size) % this.#threads.length] as Thread;
      const part = reads.slice(from, from + size);
      if (thread.sent.length === 0) thread.movedMs = this.#usedMs;
      thread.sent.push(part);
      thread.worker.postMessage(part.map(({ path, position, length }): TailRead => ({ path, position, length })));
    }
  }

  #start(): void {
    if (this.#threads.length > 0) return;
    this.#threads = Array.from({ length: threadCount }, () => {
      const worker = new Worker(this.#program, { resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16 } });
      worker.unref();
      const thread: Thread = { worker, sent: [], movedMs: 0 };
      worker.on('message', (tails: TailsRead) => this.#take(thread, tails));
      worker.on('error', (error) => this.#fail(error));
      return thread;
    });
    this.#timer = setInterval(() => this.#look(), this.#maxStallMs / 2).unref();
  }

  #take(thread: Thread, { bytes, lengths }: TailsRead): void {
    thread.movedMs = performance.now();
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    for (const [number, { resolve }] of (thread.sent.shift() ?? []).entries()) {
      const length = lengths[number] as number;
      this.#waiting -= 1;
      resolve(length < 0 ? undefined : buffer.subarray(at, at + length));
      at += Math.max(0, length);
    }
  }

  #look(): void {
    const now = performance.now();
    const isStalled = this.#threads.some(({ sent, movedMs }) => sent.length > 0 && now - movedMs > this.#maxStallMs);
    const isIdle = this.#waiting === 0 && now - this.#usedMs > idleMs;
    if (isStalled || isIdle) void this.#stop();
  }

  #fail(error: unknown): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    void this.#stop();
    this.#onFail(error);
  }

  /** Ends the threads. Their reads resolve with undefined. */
  async #stop(): Promise<void> {
    clearInterval(this.#timer);
    const threads = this.#threads;
    this.#threads = [];
    for (const { sent } of threads) for (const reads of sent.splice(0)) this.#settle(reads);
    this.#ending += threads.length;
    const end = async ({ worker }: Thread) => {
      await worker.removeAllListeners('message').terminate();
      this.#ending -= 1;
    };
    await Promise.all(threads.map(end));
  }

  #settle(reads: readonly Waiting[]): void {
    this.#waiting -= reads.length;
    for (const { resolve } of reads) resolve(undefined);
  }
}
