/**
 * Writes and removes small files in a thread. A new file needs open, write, close and rename. In the thread pool of Node each call wakes a
 * thread and then the event loop. Here a file is one job, and the jobs of one turn of the event loop wake the thread once.
 */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { Worker } from 'node:worker_threads';
import { JobQueue } from './write-jobs.ts';

/** If the thread ends no job in this time, a file hangs. The jobs behind it then use the thread pool, which has more threads. */
const defaultMaxStallMs = 100;
const noBytes = Buffer.alloc(0);

interface FileWriterOptions {
  /** A test replaces the program of the thread, and the limit. */
  readonly program?: URL;
  readonly maxStallMs?: number;
  /** The thread has ended early. From now on `write` and `remove` resolve with false. */
  readonly onFail: (error: unknown) => void;
}

interface Waiting {
  readonly resolve: (isWritten: boolean) => void;
  readonly reject: (error: Error) => void;
}

export class FileWriter {
  readonly #queue = new JobQueue();
  readonly #maxStallMs: number;
  readonly #worker: Worker;
  readonly #timer: NodeJS.Timeout;
  readonly #waitingBySlot: (Waiting | undefined)[] = [];
  #isReady = false;
  /** Whether a wake of the thread, or of this event loop, is to come. */
  #isWaking = false;
  #isListening = false;
  /** When the last job ended, or when the first one was added. */
  #movedMs = 0;

  constructor({ program, maxStallMs = defaultMaxStallMs, onFail }: FileWriterOptions) {
    this.#maxStallMs = maxStallMs;
    this.#worker = new Worker(program ?? new URL('./file-writer-thread.ts', import.meta.url), {
      workerData: this.#queue.area,
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16 },
    });
    this.#worker.unref();
    this.#worker.once('message', () => {
      this.#isReady = true;
    });
    this.#worker.on('error', (error) => {
      this.#fail();
      onFail(error);
    });
    this.#timer = setInterval(() => this.#look(), defaultMaxStallMs / 2).unref();
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
    const isIdle = this.#queue.isEmpty;
    this.#stop();
    const ended = this.#worker.terminate();
    // A thread that hangs in the disk cannot end.
    if (isIdle) await ended;
  }

  async #run(temporary: string, path: string, bytes: Buffer): Promise<boolean> {
    if (!this.#isReady || this.#isStalled()) return false;
    if (this.#queue.isEmpty) this.#movedMs = performance.now();
    const slot = this.#queue.add(temporary, path, bytes);
    if (slot === undefined) return false;
    if (!this.#isWaking) {
      this.#isWaking = true;
      setImmediate(() => this.#wake());
    }
    return await new Promise((resolve, reject) => {
      this.#waitingBySlot[slot] = { resolve, reject };
    });
  }

  #wake(): void {
    this.#isWaking = false;
    this.#queue.wakeThread();
    this.#listen();
  }

  #listen(): void {
    while (!this.#isListening) {
      this.#takeEnded();
      if (this.#queue.isEmpty) return;
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
    for (let job = this.#queue.takeEnded(); job !== undefined; job = this.#queue.takeEnded()) {
      this.#movedMs = performance.now();
      const { slot, errno } = job;
      this.#settle(slot, (waiting) => (errno === 0 ? waiting.resolve(true) : waiting.reject(systemError(errno))));
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
    this.#isReady = false;
    clearInterval(this.#timer);
    this.#withdraw();
  }

  /** Only the job in which the thread has ended fails. Jobs that ended before are settled with their result. */
  #fail(): void {
    this.#takeEnded();
    this.#stop();
    for (const slot of this.#waitingBySlot.keys()) this.#settle(slot, ({ reject }) => reject(systemError(-constants.errno.EIO)));
  }

  #settle(slot: number, how: (waiting: Waiting) => void): void {
    const waiting = this.#waitingBySlot[slot];
    this.#waitingBySlot[slot] = undefined;
    if (waiting !== undefined) how(waiting);
  }
}

function systemError(errno: number): Error {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${code}: the thread could not write or remove the file`), { code, errno });
}
