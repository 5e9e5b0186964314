/**
 * Reads small files whole in a thread. A cold small object needs open and read. In the thread pool of Node each call wakes a thread and
 * then the event loop. Here a file is one job, the jobs of one turn of the event loop wake the thread once, and their bytes and checksums
 * are in shared memory.
 */
import { getSystemErrorName } from 'node:util';
import { Worker } from 'node:worker_threads';
import { headRoomBytes, ReadQueue, type ReadResult } from './read-jobs.ts';

/** If the oldest job takes longer, the thread gets no further jobs: on a slow disk, the thread pool opens more files at the same time. */
const defaultMaxLagMs = 10;
/** If the oldest job takes longer, its file hangs. All jobs of the thread then use the thread pool. */
const defaultMaxStallMs = 100;

interface FileReaderOptions {
  /** A test replaces the program of the thread, and the limits. */
  readonly program?: URL;
  readonly maxLagMs?: number;
  readonly maxStallMs?: number;
  /** The thread has ended early. From now on `read` resolves with undefined. */
  readonly onFail: (error: unknown) => void;
}

/** A file in shared memory, and its descriptor, which the caller closes. */
export interface WholeFile {
  readonly fd: number;
  /** The file begins at `offset`. The space before it is free. */
  readonly buffer: Buffer;
  readonly offset: number;
  readonly bytes: number;
  /** CRC-32 of the body whose length the trailer states. */
  readonly bodySum: number;
  /** Call it after the last use of `buffer`. */
  give(): void;
}

interface Waiting {
  readonly sinceMs: number;
  readonly resolve: (file: WholeFile | undefined) => void;
  readonly reject: (error: Error) => void;
}

export class FileReader {
  readonly #queue = new ReadQueue();
  readonly #options: Required<Omit<FileReaderOptions, 'program'>>;
  readonly #worker: Worker;
  readonly #timer: NodeJS.Timeout;
  readonly #waitingBySlot: (Waiting | undefined)[] = [];
  #isReady = false;
  /** Whether a wake of the thread, or of this event loop, is to come. */
  #isWaking = false;
  #isListening = false;

  constructor({ program, maxLagMs = defaultMaxLagMs, maxStallMs = defaultMaxStallMs, onFail }: FileReaderOptions) {
    this.#options = { maxLagMs, maxStallMs, onFail };
    this.#worker = new Worker(program ?? new URL('./file-reader-thread.ts', import.meta.url), {
      workerData: this.#queue.area,
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16 },
      // This event loop closes the descriptors of the thread. At its end, the thread must not close numbers that have other files by then.
      trackUnmanagedFds: false,
    });
    this.#worker.unref();
    this.#worker.once('message', () => {
      this.#isReady = true;
    });
    this.#worker.on('error', (error) => {
      this.#stop();
      onFail(error);
    });
    this.#timer = setInterval(() => this.#look(), defaultMaxStallMs / 2).unref();
  }

  /**
   * Reads at most `bytes` bytes of a file. Resolves with undefined if another way must read it: the file is too large, too many files are
   * in use, or the thread is late. Rejects with a system error.
   */
  async read(path: string, bytes: number): Promise<WholeFile | undefined> {
    if (!this.#isReady || this.#isOlder(this.#options.maxLagMs)) return undefined;
    const slot = this.#queue.add(path, bytes);
    if (slot === undefined) return undefined;
    if (!this.#isWaking) {
      this.#isWaking = true;
      setImmediate(() => this.#wake());
    }
    return await new Promise((resolve, reject) => {
      this.#waitingBySlot[slot] = { sinceMs: performance.now(), resolve, reject };
    });
  }

  async close(): Promise<void> {
    const isIdle = this.#queue.oldest === undefined;
    this.#stop();
    const ended = this.#worker.terminate();
    // A thread that hangs in the disk cannot end.
    if (isIdle) await ended;
  }

  #wake(): void {
    this.#isWaking = false;
    this.#queue.wakeThread();
    this.#listen();
  }

  #listen(): void {
    while (!this.#isListening) {
      this.#takeEnded();
      if (this.#queue.oldest === undefined) return;
      const end = this.#queue.nextEnd();
      if (end === undefined) continue;
      this.#isListening = true;
      void end.then(() => {
        this.#isListening = false;
        this.#listen();
      });
    }
  }

  #takeEnded(): void {
    for (let result = this.#queue.takeEnded(); result !== undefined; result = this.#queue.takeEnded()) this.#settle(result);
  }

  #settle(result: ReadResult): void {
    const { slot, errno, fd, got, sum } = result;
    const waiting = this.#takeWaiting(slot);
    if (errno === 0) {
      const give = () => this.#queue.free(slot);
      waiting?.resolve({ fd, buffer: this.#queue.buffer(slot), offset: headRoomBytes, bytes: got, bodySum: sum, give });
    } else {
      this.#queue.free(slot);
      waiting?.reject(systemError(errno));
    }
  }

  /** Whether the oldest job is older than this. The event loop may be late, so it first takes the jobs that have ended. */
  #isOlder(ageMs: number): boolean {
    if (!this.#hasOlder(ageMs)) return false;
    this.#takeEnded();
    return this.#hasOlder(ageMs);
  }

  #hasOlder(ageMs: number): boolean {
    const { oldest } = this.#queue;
    if (oldest === undefined) return false;
    const waiting = this.#waitingBySlot[oldest];
    return waiting === undefined || performance.now() - waiting.sinceMs > ageMs;
  }

  #look(): void {
    if (this.#isOlder(this.#options.maxStallMs)) this.#withdraw();
  }

  #withdraw(): void {
    for (const slot of this.#queue.withdraw()) this.#takeWaiting(slot)?.resolve(undefined);
  }

  #stop(): void {
    this.#isReady = false;
    clearInterval(this.#timer);
    this.#takeEnded();
    this.#withdraw();
  }

  #takeWaiting(slot: number): Waiting | undefined {
    const waiting = this.#waitingBySlot[slot];
    this.#waitingBySlot[slot] = undefined;
    return waiting;
  }
}

function systemError(errno: number): Error {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${code}: the thread could not read the file`), { code, errno });
}
