/** Limits the time that a request waits for the disk. A file call cannot be cancelled, so a late result needs its own cleanup. */

/** The disk did not respond in time. The call is still running. */
export class DiskTimeoutError extends Error {
  readonly code = 'DISK_TIMEOUT';
  /** Resolves when the call has succeeded or failed. Until then the call uses its buffers. */
  readonly ended: Promise<void>;

  constructor(limitMs: number, call: Promise<unknown>) {
    super(`the disk did not respond within ${limitMs} ms`);
    this.ended = call.then(ignore, ignore);
  }
}

/** Settles as the call does. After `limitMs` it rejects with DiskTimeoutError, and `onLate` gets the late result. */
export function within<T>(limitMs: number, call: Promise<T>, onLate: (result: T) => void = ignore): Promise<T> {
  return new Promise((resolve, reject) => {
    let isSettled = false;
    let isLate = false;
    const expire = (): void => {
      if (isSettled) return;
      isLate = true;
      reject(new DiskTimeoutError(limitMs, call));
    };
    // If the event loop is late, results of finished calls are still queued. They must not count as a timeout of the disk.
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
