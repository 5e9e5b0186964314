/** The body of one PUT as it comes in on a socket, handed on piece by piece, with back-pressure. */

/** The sender went away or broke off before its body was whole. */
export class BrokenBodyError extends Error {
  readonly code = 'BROKEN_BODY';
}

/** Pieces that wait for the disk: with the two blocks of an upload, what one connection may hold. */
const maxWaitingBytes = 256 * 1024;

export class RequestBody implements AsyncIterable<Buffer>, AsyncIterator<Buffer> {
  remainingBytes: number;
  readonly #onPressure: (isHigh: boolean) => void;
  #pieces: Buffer[] = [];
  #waitingBytes = 0;
  #isHigh = false;
  #error: BrokenBodyError | undefined;
  #reader: PromiseWithResolvers<IteratorResult<Buffer>> | undefined;

  constructor(lengthBytes: number, onPressure: (isHigh: boolean) => void) {
    this.remainingBytes = lengthBytes;
    this.#onPressure = onPressure;
  }

  /** Takes what belongs to this body and returns the rest, which belongs to the next request. */
  push(bytes: Buffer): Buffer | undefined {
    const piece = bytes.length > this.remainingBytes ? bytes.subarray(0, this.remainingBytes) : bytes;
    this.remainingBytes -= piece.length;
    if (piece.length > 0) this.#deliver(piece);
    return piece.length < bytes.length ? bytes.subarray(piece.length) : undefined;
  }

  fail(error: BrokenBodyError): void {
    this.#error ??= error;
    this.#reader?.reject(this.#error);
    this.#reader = undefined;
  }

  next(): Promise<IteratorResult<Buffer>> {
    const piece = this.#pieces.shift();
    if (piece !== undefined) {
      this.#waitingBytes -= piece.length;
      if (this.#isHigh && this.#waitingBytes < maxWaitingBytes / 2) this.#setHigh(false);
      return Promise.resolve({ done: false, value: piece });
    }
    if (this.remainingBytes === 0) return Promise.resolve({ done: true, value: undefined });
    if (this.#error !== undefined) return Promise.reject(this.#error);
    this.#reader = Promise.withResolvers();
    return this.#reader.promise;
  }

  /** Leaving a loop early keeps the feed: the rest may still be read and dropped. */
  return(): Promise<IteratorResult<Buffer>> {
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    return this;
  }

  #deliver(piece: Buffer): void {
    if (this.#reader !== undefined) {
      this.#reader.resolve({ done: false, value: piece });
      this.#reader = undefined;
      return;
    }
    this.#pieces.push(piece);
    this.#waitingBytes += piece.length;
    if (!this.#isHigh && this.#waitingBytes > maxWaitingBytes) this.#setHigh(true);
  }

  #setHigh(isHigh: boolean): void {
    this.#isHigh = isHigh;
    this.#onPressure(isHigh);
  }
}
