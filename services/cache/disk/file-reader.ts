/**
 * Reads small files whole in a thread. A cold small object needs open and read. In the thread pool of Node each call wakes a thread and
 * then the event loop. Here a file is one job, the jobs of one turn of the event loop wake the thread once, and their bytes and checksums
 * are in shared memory.
 */
import { defaultMaxStallMs, JobThread, type ThreadOptions, threadError } from './job-thread.ts';
import { headRoomBytes, ReadQueue, type ReadResult } from './read-jobs.ts';

/** If the oldest job takes longer, the thread gets no further jobs: on a slow disk, the thread pool opens more files at the same time. */
const defaultMaxLagMs = 10;

interface FileReaderOptions extends ThreadOptions {
  readonly maxLagMs?: number;
  /** If the oldest job takes longer, its file hangs. All jobs of the thread then use the thread pool. */
  readonly maxStallMs?: number;
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

/** After the end of its thread, `read` resolves with undefined. */
export class FileReader {
  readonly #queue = new ReadQueue();
  readonly #thread: JobThread;
  readonly #maxLagMs: number;
  readonly #waitingBySlot: (Waiting | undefined)[] = [];

  constructor({ program, maxLagMs = defaultMaxLagMs, maxStallMs = defaultMaxStallMs, onFail }: FileReaderOptions) {
    this.#maxLagMs = maxLagMs;
    this.#thread = new JobThread({
      program: program ?? new URL('./file-reader-thread.ts', import.meta.url),
      queue: this.#queue,
      takeEnded: () => this.#takeEnded(),
      look: () => {
        if (this.#isOlder(maxStallMs)) this.#withdraw();
      },
      onFail: (error) => {
        this.#stop();
        onFail(error);
      },
    });
  }

  /**
   * Reads at most `bytes` bytes of a file. Resolves with undefined if another way must read it: the file is too large, too many files are
   * in use, or the thread is late. Rejects with a system error.
   */
  async read(path: string, bytes: number): Promise<WholeFile | undefined> {
    if (!this.#thread.isReady || this.#isOlder(this.#maxLagMs)) return undefined;
    const slot = this.#queue.add(path, bytes);
    if (slot === undefined) return undefined;
    this.#thread.wake();
    return await new Promise((resolve, reject) => {
      this.#waitingBySlot[slot] = { sinceMs: performance.now(), resolve, reject };
    });
  }

  async close(): Promise<void> {
    this.#stop();
    await this.#thread.terminate();
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
      waiting?.reject(threadError(errno, 'read'));
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

  #withdraw(): void {
    for (const slot of this.#queue.withdraw()) this.#takeWaiting(slot)?.resolve(undefined);
  }

  #stop(): void {
    this.#thread.stop();
    this.#takeEnded();
    this.#withdraw();
  }

  #takeWaiting(slot: number): Waiting | undefined {
    const waiting = this.#waitingBySlot[slot];
    this.#waitingBySlot[slot] = undefined;
    return waiting;
  }
}
