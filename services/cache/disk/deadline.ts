/** Bounds how long a request waits for the disk. A file call cannot be stopped, so its late result must clean up after itself. */

/** The disk did not answer in time. The call is still running. */
export class DiskTimeoutError extends Error {
  readonly code = 'DISK_TIMEOUT';
  /** Resolves when the call has ended, well or not: until then the buffers that it uses belong to it. */
  readonly ended: Promise<void>;

  constructor(limitMs: number, call: Promise<unknown>) {
    super(`the disk did not answer within ${limitMs} ms`);
    this.ended = call.then(ignore, ignore);
  }
}

/** Resolves or rejects as the call does, or rejects with DiskTimeoutError after `limitMs`. Then `onLate` gets the late result. */
export function within<T>(limitMs: number, call: Promise<T>, onLate: (result: T) => void = ignore): Promise<T> {
  return new Promise((resolve, reject) => {
    let isSettled = false;
    let isLate = false;
    const expire = (): void => {
      if (isSettled) return;
      isLate = true;
      reject(new DiskTimeoutError(limitMs, call));
    };
    // When the event loop was late, finished calls wait for its next turn: they are not the disk's delay.
    const timer = setTimeout(() => setImmediate(expire), Math.max(0, limitMs));
    call.then(
      (result) => {
        isSettled = true;
        clearTimeout(timer);
        if (isLate) onLate(result);
        else resolve(result);
      },
      (error: unknown) => {
        isSettled = true;
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

function ignore(): void {}
