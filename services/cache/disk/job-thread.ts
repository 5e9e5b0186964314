/**
 * A thread that works on the queue of jobs that it shares with the event loop (write-jobs.ts, read-jobs.ts). The jobs of one turn of the
 * event loop wake the thread once.
 */
import { getSystemErrorName } from 'node:util';
import { Worker } from 'node:worker_threads';

/** If the thread ends no job in this time, a file hangs. The other jobs then use the thread pool, which has more threads. */
export const defaultMaxStallMs = 100;

/** A test replaces the program of the thread. */
export interface ThreadOptions {
  readonly program?: URL;
  /** The thread has ended early. From now on all files use the thread pool. */
  readonly onFail: (error: unknown) => void;
}

interface JobThreadOptions {
  readonly program: URL;
  readonly queue: {
    readonly area: object;
    readonly isEmpty: boolean;
    wakeThread(): void;
    nextEnd(): Promise<unknown> | undefined;
  };
  /** Settles the jobs that have ended. */
  readonly takeEnded: () => void;
  /** Called at an interval, to find a file that hangs. */
  readonly look: () => void;
  readonly onFail: (error: unknown) => void;
}

export class JobThread {
  readonly #options: JobThreadOptions;
  readonly #worker: Worker;
  readonly #timer: NodeJS.Timeout;
  #isReady = false;
  /** Whether a wake of the thread is to come. */
  #isWaking = false;
  #isListening = false;

  constructor(options: JobThreadOptions) {
    const { program, queue, look, onFail } = options;
    this.#options = options;
    this.#worker = new Worker(program, {
      workerData: queue.area,
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16 },
      // The event loop closes descriptors of a thread that reads. At its end, the thread must not close numbers that have other files by then.
      trackUnmanagedFds: false,
    });
    this.#worker.unref();
    this.#worker.once('message', () => {
      this.#isReady = true;
    });
    this.#worker.on('error', onFail);
    this.#timer = setInterval(look, defaultMaxStallMs / 2).unref();
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Call it after a job was added to the queue. */
  wake(): void {
    if (this.#isWaking) return;
    this.#isWaking = true;
    setImmediate(() => {
      this.#isWaking = false;
      this.#options.queue.wakeThread();
      this.#listen();
    });
  }

  /** The thread gets no more jobs. */
  stop(): void {
    this.#isReady = false;
    clearInterval(this.#timer);
  }

  /** Ends the thread after `stop`. */
  async terminate(): Promise<void> {
    const ended = this.#worker.terminate();
    // A thread that hangs in the disk cannot end.
    if (this.#options.queue.isEmpty) await ended;
  }

  #listen(): void {
    const { queue, takeEnded } = this.#options;
    while (!this.#isListening) {
      takeEnded();
      if (queue.isEmpty) return;
      const end = queue.nextEnd();
      if (end === undefined) continue;
      this.#isListening = true;
      void end.then(() => {
        this.#isListening = false;
        this.#listen();
      });
    }
  }
}

/** `work`: what the thread could not do. */
export function threadError(errno: number, work: string): Error {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${code}: the thread could not ${work} the file`), { code, errno });
}
