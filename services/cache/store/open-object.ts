/** One version of one object, open for reading. It stays readable while a reader holds it, even if its file is replaced or removed. */
import { crc32 } from 'node:zlib';
import type { Key } from '../../shared/key.ts';
import { blockBytes, entityTag, ownerOf, type Trailer } from '../disk/trailer.ts';
import { noRow } from '../index/object-index.ts';

/** The bytes differ from those that were written: the object must not be served. */
export class CorruptObjectError extends Error {
  readonly code = 'CORRUPT';
}

export class OpenObject {
  readonly key: Key;
  readonly fd: number;
  readonly length: number;
  readonly tag: string;
  /** The namespace in whose share it counts (trailer.ts). */
  readonly namespace: string;
  /** Its origin, and the version there. Both are empty for an object that a client has stored. */
  readonly origin: string;
  readonly originVersion: string;
  readonly contentType: string;
  readonly contentEncoding: string;
  readonly fileBytes: number;
  /** Microseconds since 1970. */
  readonly committedAt: bigint;
  /** Commit time in whole seconds since 1970. */
  readonly modifiedSeconds: number;
  /** Its row in the index, or `noRow` while the index does not have this version. */
  row: number;
  /** Called when the last reader has released the object and OpenFiles still has it. */
  onIdle: (() => void) | undefined;
  readonly #close: (isStored: boolean) => void;
  readonly #closed = Promise.withResolvers<void>();
  readonly #sums: Uint32Array;
  /** When each block was last read, as a step of the clock. 0 for a block that was not checked since the object was opened. */
  readonly #readTicks: Uint32Array;
  /** The caller of the constructor has the first reference. OpenFiles has one too. */
  #references = 1;

  /** `close` gets whether the file still has its name. Closing the last descriptor of a removed file frees its blocks, which takes time. */
  constructor(options: {
    trailer: Omit<Trailer, 'sumsBytes' | 'trailerBytes'>;
    sums: Uint32Array;
    fd: number;
    row: number;
    close: (isStored: boolean) => void;
  }) {
    const { trailer, sums } = options;
    this.key = trailer.key;
    this.length = trailer.length;
    this.namespace = ownerOf(trailer);
    this.origin = trailer.origin;
    this.originVersion = trailer.originVersion;
    this.contentType = trailer.contentType;
    this.contentEncoding = trailer.contentEncoding;
    this.fileBytes = trailer.fileBytes;
    this.committedAt = trailer.committedAt;
    this.modifiedSeconds = Number(trailer.committedAt / 1_000_000n);
    this.tag = entityTag(trailer);
    this.fd = options.fd;
    this.row = options.row;
    this.#close = options.close;
    this.#sums = sums;
    this.#readTicks = new Uint32Array(sums.length);
  }

  /** Resolves when the last reader has released the object and its descriptor is closed. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  get isInUse(): boolean {
    return this.#references > 1;
  }

  get isClosed(): boolean {
    return this.#references === 0;
  }

  acquire(): void {
    this.#references += 1;
  }

  release(): void {
    this.#references -= 1;
    if (this.#references === 1) this.onIdle?.();
    else if (this.#references === 0) {
      this.#close(this.row !== noRow);
      this.#closed.resolve();
    }
  }

  /** Returns the bytes to read for the next piece of [at, end). A piece ends at the end of a block. An unchecked block is read whole. */
  nextPiece(at: number, end: number): { from: number; to: number } {
    const block = Math.floor(at / blockBytes);
    const blockEnd = Math.min((block + 1) * blockBytes, this.length);
    return this.#readTicks[block] === 0 ? { from: block * blockBytes, to: blockEnd } : { from: at, to: Math.min(end, blockEnd) };
  }

  /** When the block with this byte was last read, or 0 if it was not checked since the object was opened. */
  readTick(at: number): number {
    return this.#readTicks[Math.floor(at / blockBytes)] as number;
  }

  /** Records a read at `tick`. Checks each block that was not checked yet, which must be whole in `bytes`. Throws CorruptObjectError. */
  accept(bytes: Buffer, from: number, tick: number): void {
    const to = from + bytes.length;
    for (let at = from; at < to; ) {
      const block = Math.floor(at / blockBytes);
      const blockEnd = Math.min((block + 1) * blockBytes, to);
      if (this.#readTicks[block] === 0) this.#check(block, crc32(bytes.subarray(at - from, blockEnd - from)));
      this.#readTicks[block] = tick;
      at = blockEnd;
    }
  }

  /** Records a read of the only block at `tick`. Checks the CRC-32 of the block. Throws CorruptObjectError. */
  acceptSum(sum: number, tick: number): void {
    this.#check(0, sum);
    this.#readTicks[0] = tick;
  }

  #check(block: number, sum: number): void {
    if (sum !== this.#sums[block]) throw new CorruptObjectError(`block ${block} has a wrong checksum`);
  }
}
