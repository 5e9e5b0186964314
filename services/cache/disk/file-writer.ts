/**
 * Writes and removes small files in a thread. A new file needs open, write, close and rename. In the thread pool of Node each call wakes a
 * thread and then the event loop. Here a file is one job, and the jobs of one turn of the event loop wake the thread once.
 */
import { constants } from 'node:os';
import { defaultMaxStallMs, JobThread, type ThreadOptions, threadError } from './job-thread.ts';
import { JobQueue } from './write-jobs.ts';

const noBytes = Buffer.alloc(0);
const work = 'write or remove';

interface FileWriterOptions extends ThreadOptions {
  readonly maxStallMs?: number;
}

interface Waiting {
  readonly resolve: (isWritten: boolean) => void;
  readonly reject: (error: Error) => void;
}

/** After the end of its thread, `write` and `remove` resolve with false. */
export class FileWriter {
  readonly #queue = new JobQueue();
  readonly #thread: JobThread;
  readonly #maxStallMs: number;
  readonly #waitingBySlot: (Waiting | undefined)[] = [];
  /** When the last job ended, or when the first one was added. */
  #movedMs = 0;

  constructor({ program, maxStallMs = defaultMaxStallMs, onFail }: FileWriterOptions) {
    this.#maxStallMs = maxStallMs;
    this.#thread = new JobThread({
      program: program ?? new URL('./file-writer-thread.ts', import.meta.url),
      queue: this.#queue,
      takeEnded: () => this.#takeEnded(),
      look: () => this.#look(),
      onFail: (error) => {
        this.#fail();
        onFail(error);
      },
    });
  }

  /**
   * Creates `temporary` with these bytes and renames it to `path`. Resolves with false if it has not touched the disk: the file is too
   * large, the queue is full, or the thread hangs in another file. Rejects with a system error.
   */
  async write(temporary: string, path: string, bytes: Buffer): Promise<boolean> {
    return await this.#run(temporary, path, bytes);
  }

  /** Removes a file. Resolves and rejects as `write`. Half of the queue is for files that requests write. */
  async remove(path: string): Promise<boolean> {
    if (this.#queue.isHalfFull) return false;
    return await this.#run('', path, noBytes);
  }

  async close(): Promise<void> {
    this.#stop();
    await this.#thread.terminate();
  }

  async #run(temporary: string, path: string, bytes: Buffer): Promise<boolean> {
    if (!this.#thread.isReady || this.#isStalled()) return false;
    if (this.#queue.isEmpty) this.#movedMs = performance.now();
    const slot = this.#queue.add(temporary, path, bytes);
    if (slot === undefined) return false;
    this.#thread.wake();
    return await new Promise((resolve, reject) => {
      this.#waitingBySlot[slot] = { resolve, reject };
    });
  }

  #takeEnded(): void {
    for (let job = this.#queue.takeEnded(); job !== undefined; job = this.#queue.takeEnded()) {
      this.#movedMs = performance.now();
      const { slot, errno } = job;
      this.#settle(slot, (waiting) => (errno === 0 ? waiting.resolve(true) : waiting.reject(threadError(errno, work))));
    }
  }

  #isStalled(): boolean {
    return !this.#queue.isEmpty && performance.now() - this.#movedMs > this.#maxStallMs;
  }

  /** The event loop may be late, so it first takes the jobs that have ended. */
  #look(): void {
    this.#takeEnded();
    if (this.#isStalled()) this.#withdraw();
  }

  #withdraw(): void {
    for (const slot of this.#queue.withdraw()) this.#settle(slot, ({ resolve }) => resolve(false));
  }

  #stop(): void {
    this.#thread.stop();
    this.#withdraw();
  }

  /** Only the job in which the thread has ended fails. Jobs that ended before are settled with their result. */
  #fail(): void {
    this.#takeEnded();
    this.#stop();
    for (const slot of this.#waitingBySlot.keys()) this.#settle(slot, ({ reject }) => reject(threadError(-constants.errno.EIO, work)));
  }

  #settle(slot: number, how: (waiting: Waiting) => void): void {
    const waiting = this.#waitingBySlot[slot];
    this.#waitingBySlot[slot] = undefined;
    if (waiting !== undefined) how(waiting);
  }
}
