/** The body of one PUT from a socket, as a stream of pieces with back-pressure and a minimum rate. */

/** The client disconnected before the end of its body. */
export class BrokenBodyError extends Error {
  readonly code = 'BROKEN_BODY';
}

/** Bytes of one connection that may wait for the disk before the client is paused. */
const maxWaitingBytes = 64 * 1024;
/** If a client sends less than this in one writer timeout, its connection is cut. */
const minPacedBytes = 64 * 1024;
/** It costs less to leave a smaller piece to the garbage collector. */
const minFreedBytes = 16 * 1024;

/** Pure: the minimum rate of a body. */
export class Pace {
  #bytes = 0;

  /** Counts received bytes. Returns true if the client has sent enough for another writer timeout. */
  renews(bytes: number): boolean {
    this.#bytes += bytes;
    if (this.#bytes < minPacedBytes) return false;
    this.#bytes = 0;
    return true;
  }
}

interface RequestBodyOptions {
  readonly lengthBytes: number;
  /** Called with true when the client must pause, and with false when it may send again. */
  readonly onPressure: (isHigh: boolean) => void;
  /** Called with each change of the number of waiting bytes. */
  readonly onHold: (bytes: number) => void;
  /** Whether the memory for bodies is used up. */
  readonly isExhausted: () => boolean;
}

/** A piece is valid until the next call of `next`. */
export class RequestBody implements AsyncIterable<Buffer>, AsyncIterator<Buffer> {
  remainingBytes: number;
  readonly pace = new Pace();
  readonly #options: RequestBodyOptions;
  #pieces: Buffer[] = [];
  /** The piece that `next` has returned. */
  #lent: Buffer | undefined;
  #waitingBytes = 0;
  #isHigh = false;
  #error: BrokenBodyError | undefined;
  #reader: PromiseWithResolvers<IteratorResult<Buffer>> | undefined;

  constructor(options: RequestBodyOptions) {
    this.remainingBytes = options.lengthBytes;
    this.#options = options;
  }

  /** Whether the client is paused. */
  get isHigh(): boolean {
    return this.#isHigh;
  }

  /**
   * Takes the bytes of this body, which no other buffer may share, because the body frees their memory. Returns a copy of the rest, which
   * belongs to the next request.
   */
  push(bytes: Buffer): Buffer | undefined {
    const piece = bytes.length > this.remainingBytes ? bytes.subarray(0, this.remainingBytes) : bytes;
    const rest = piece.length < bytes.length ? joinAlone([bytes.subarray(piece.length)]) : undefined;
    this.remainingBytes -= piece.length;
    if (piece.length > 0) this.#deliver(piece);
    return rest;
  }

  fail(error: BrokenBodyError): void {
    this.#error ??= error;
    this.#reader?.reject(this.#error);
    this.#reader = undefined;
  }

  next(): Promise<IteratorResult<Buffer>> {
    this.#free();
    const piece = this.#pieces.shift();
    if (piece !== undefined) {
      this.#lent = piece;
      this.#hold(-piece.length);
      if (this.#isHigh && this.#waitingBytes < maxWaitingBytes / 2) this.#setHigh(false);
      return Promise.resolve({ done: false, value: piece });
    }
    if (this.remainingBytes === 0) return Promise.resolve({ done: true, value: undefined });
    if (this.#error !== undefined) return Promise.reject(this.#error);
    this.#reader = Promise.withResolvers();
    return this.#reader.promise;
  }

  /** Drops the unread bytes. */
  discard(): void {
    this.#pieces = [];
    this.#hold(-this.#waitingBytes);
  }

  /** Changes nothing at the early end of a loop, because the rest may still be read and dropped. */
  return(): Promise<IteratorResult<Buffer>> {
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    return this;
  }

  #deliver(piece: Buffer): void {
    if (this.#reader !== undefined) {
      this.#lent = piece;
      this.#reader.resolve({ done: false, value: piece });
      this.#reader = undefined;
      return;
    }
    this.#pieces.push(piece);
    this.#hold(piece.length);
    if (!this.#isHigh && (this.#waitingBytes >= maxWaitingBytes || this.#options.isExhausted())) this.#setHigh(true);
  }

  /** Otherwise, large bodies soon reach V8's limit of memory outside its heap, and each time it collects the whole heap. */
  #free(): void {
    const memory = this.#lent?.buffer;
    this.#lent = undefined;
    if (memory instanceof ArrayBuffer && memory.byteLength >= minFreedBytes) memory.transfer(0);
  }

  #hold(bytes: number): void {
    this.#waitingBytes += bytes;
    this.#options.onHold(bytes);
  }

  #setHigh(isHigh: boolean): void {
    this.#isHigh = isHigh;
    this.#options.onPressure(isHigh);
  }
}

/** Like Buffer.concat, but never in the memory that Node shares between small buffers. */
export function joinAlone(parts: readonly Buffer[]): Buffer {
  const whole = Buffer.allocUnsafeSlow(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) at += part.copy(whole, at);
  return whole;
}
