/** The upload of one object: blocks of 256 KiB to a temporary file, then the trailer. The store renames the file afterwards. */
import { crc32 } from 'node:zlib';
import type { Key } from '../../shared/key.ts';
import type { Files } from '../disk/files.ts';
import { blockBytes, blockCount, encodeTrailer, entityTag, type ObjectMeta } from '../disk/trailer.ts';
import { blocksOf, fileBlockBytes, type Space } from '../index/space.ts';
import { type BufferPool, BufferTimeoutError } from './buffer-pool.ts';

/** How long an upload waits for a buffer. */
const bufferLimitMs = 1_000;
/** Buffer space after the last bytes for the trailer of an ordinary object, so that one write(2) writes both. */
const trailerRoomBytes = 2048;
/** Most room that an upload takes in advance. A stalled upload of 64 GiB must not evict all objects of a shard. */
const aheadBytes = 16 * 1024 * 1024;

export class NoRoomError extends Error {
  readonly code = 'NO_ROOM';
}

interface UploadOptions {
  readonly key: Key;
  readonly namespace: string;
  readonly contentType: string;
  readonly contentEncoding: string;
  readonly serviceAccount: string;
  readonly pod: string;
  readonly origin: string;
  readonly originVersion: string;
  /** Undefined for a chunked body. */
  readonly length: number | undefined;
  readonly temporaryPath: string;
  readonly files: Files;
  readonly buffers: BufferPool;
  readonly space: Space;
  /** Counts room in the share of the namespace: before it is taken, and with a negative number after it was given back. */
  readonly charge: (bytes: number) => void;
  /** Called when `readableBytes` grows. With it, the file stays open for readers until `takeDescriptor` or `discard`. */
  readonly onReadable?: (() => void) | undefined;
  /** Called when the upload is discarded. */
  readonly onDiscard: () => void;
}

/** A complete object without its final name. A small one may still have to be written. */
export interface WrittenFile {
  readonly meta: ObjectMeta;
  readonly tag: string;
  readonly sizeBytes: number;
  /** The CRC-32 of each block. */
  readonly sums: Uint32Array;
  /** The CRC-32 of all block sums. */
  readonly sumOfSums: number;
}

/**
 * Receives the body in chunks. If `write` returns a promise, the caller must await it before the next chunk: at most one block is written
 * while the next block fills. After a fault every call rejects. `abort` returns all resources and may be called at any time.
 */
export class Upload {
  readonly options: UploadOptions;
  receivedBytes = 0;
  /** The response has already stated that the object is not stored, so a late commit must not keep it. */
  isAbandoned = false;
  /** A removal of its prefix came after its start, so it must not be stored. */
  isRevoked = false;
  #fd: number | undefined;
  #buffer: Buffer | undefined;
  #filled = 0;
  #writtenBytes = 0;
  #sums: number[] = [];
  #takenBytes = 0;
  #reservedBytes: number;
  /** The last complete block, while its buffer is in use. */
  #complete: { readonly block: number; readonly buffer: Buffer } | undefined;
  #flushing: Promise<void> = Promise.resolve();
  #isFlushing = false;
  /** A small object and its trailer, which `#buffer` holds until `moveTo` writes them. */
  #unwrittenBytes = 0;
  #fault: unknown;
  #work: Promise<unknown> = Promise.resolve();
  #isEnded = false;

  /** The caller has reserved `length` bytes. */
  constructor(options: UploadOptions) {
    this.options = options;
    this.#reservedBytes = options.length ?? 0;
  }

  get takenBytes(): number {
    return this.#takenBytes;
  }

  /**
   * Bytes of complete blocks. A reader gets each from memory or from the file. None before the first write, so that a disk that takes no
   * writes breaks no response. A small object needs no write: it is in memory as a whole, and its room is taken.
   */
  get readableBytes(): number {
    if (this.#writtenBytes + this.#unwrittenBytes === 0) return 0;
    return Math.min(this.receivedBytes, this.#sums.length * blockBytes);
  }

  /** Bytes that the file has. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  get descriptor(): number | undefined {
    return this.#fd;
  }

  /** The CRC-32 of each block so far. */
  get sums(): readonly number[] {
    return this.#sums;
  }

  /** Copies readable bytes of one block to `target`. Returns false if the block is not in memory any more. */
  copy({ from, to }: { from: number; to: number }, target: Buffer, offset: number): boolean {
    const block = Math.floor(from / blockBytes);
    if (this.#complete?.block !== block) return false;
    this.#complete.buffer.copy(target, offset, from - block * blockBytes, to - block * blockBytes);
    return true;
  }

  /** The descriptor of a finished file that was kept open for readers. The caller closes it. */
  takeDescriptor(): number | undefined {
    const fd = this.#fd;
    this.#fd = undefined;
    return fd;
  }

  write(chunk: Buffer): Promise<void> | undefined {
    this.receivedBytes += chunk.length;
    if (this.#buffer !== undefined && chunk.length < Math.min(blockBytes, this.#buffer.length) - this.#filled) {
      this.#filled += chunk.copy(this.#buffer, this.#filled);
      return undefined;
    }
    return this.#track(this.#append(chunk));
  }

  /**
   * Adds the trailer and writes the rest, except for an object that `moveTo` can write as a whole. The room of the file stays taken until
   * the store commits or discards it.
   */
  finish(committedAt: bigint): Promise<WrittenFile> {
    return this.#track(this.#finish(committedAt));
  }

  /** Waits for the call in progress, then removes the file and returns its room. Does not change a finished upload. */
  async abort(): Promise<void> {
    this.#fault ??= new Error('the upload was aborted');
    await this.#work.catch(() => {});
    if (this.#isEnded) return;
    this.#isEnded = true;
    await this.#flushing;
    this.#dropBuffer();
    this.#releaseReservation();
    await this.discard();
  }

  async #finish(committedAt: bigint): Promise<WrittenFile> {
    await this.#flushing;
    this.#throwIfFaulty();
    if (this.#filled > 0) this.#addSum(this.#buffer as Buffer, this.#filled);
    const { key, namespace, contentType, contentEncoding, serviceAccount, pod, origin, originVersion } = this.options;
    const names = { key, namespace, contentType, contentEncoding, serviceAccount, pod, origin, originVersion };
    const meta = { ...names, length: this.receivedBytes, committedAt };
    const sums = Uint32Array.from(this.#sums);
    const trailer = encodeTrailer(meta, sums);
    const rest = this.#buffer;
    if (rest !== undefined && rest.length - this.#filled >= trailer.length) {
      trailer.copy(rest, this.#filled);
      this.#filled += trailer.length;
      await this.#takeRoom(this.#writtenBytes + this.#filled);
      if (this.#writtenBytes > 0) await this.#put(rest, this.#filled);
      else {
        this.#unwrittenBytes = this.#filled;
        this.options.onReadable?.();
      }
    } else {
      if (rest !== undefined && this.#filled > 0) await this.#put(rest, this.#filled);
      await this.#put(trailer, trailer.length);
    }
    const sizeBytes = this.#writtenBytes + this.#unwrittenBytes;
    if (this.#unwrittenBytes === 0) this.#endFile();
    const surplus = this.#takenBytes - blocksOf(sizeBytes) * fileBlockBytes;
    this.options.space.giveBack(surplus, 0);
    this.options.charge(-surplus);
    this.#takenBytes -= surplus;
    this.#releaseReservation();
    this.#isEnded = true;
    const sumOfSums = crc32(bytesOf(sums));
    return { meta, tag: entityTag({ ...meta, sumOfSums }), sizeBytes, sums, sumOfSums };
  }

  /** Gives the finished file its final name. */
  async moveTo(path: string): Promise<void> {
    const { files, temporaryPath } = this.options;
    const bytes = this.#unwrittenBytes;
    if (bytes > 0) {
      const buffer = this.#buffer as Buffer;
      if (await files.writeWhole?.(temporaryPath, path, buffer.subarray(0, bytes))) return this.#dropBuffer();
      await this.#put(buffer, bytes);
    }
    await files.rename(temporaryPath, path);
    // Until the file has its name, readers get a small object from memory.
    if (bytes > 0) this.#endFile();
  }

  /** Removes the temporary file, finished or not. No call may be in progress. */
  async discard(): Promise<void> {
    this.#dropBuffer();
    const { files, space, temporaryPath, charge, onDiscard } = this.options;
    onDiscard();
    const hadFile = this.#takenBytes > 0;
    if (this.#fd !== undefined || hadFile) await files.unlink(temporaryPath).catch(() => {});
    this.#close();
    if (hadFile) space.giveBack(this.#takenBytes, 1);
    charge(-this.#takenBytes);
    this.#takenBytes = 0;
  }

  #endFile(): void {
    this.#dropBuffer();
    if (this.options.onReadable === undefined) this.#close();
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#work = work;
    return work;
  }

  async #append(chunk: Buffer): Promise<void> {
    let rest = chunk;
    while (rest.length > 0) {
      this.#throwIfFaulty();
      const buffer = await this.#bufferFor(Math.min(blockBytes, this.#filled + rest.length));
      const copied = rest.copy(buffer, this.#filled, 0, Math.min(rest.length, blockBytes - this.#filled));
      this.#filled += copied;
      rest = rest.subarray(copied);
      if (this.#filled === blockBytes) await this.#flushBlock();
    }
  }

  /** A buffer for at least `bytes` of the block. It grows with the received bytes, so that a slow upload holds little memory. */
  async #bufferFor(bytes: number): Promise<Buffer> {
    const known = this.#buffer;
    if (known !== undefined && (bytes <= known.length || known.length >= blockBytes)) return known;
    let larger: Buffer;
    try {
      larger = await this.options.buffers.take(bytes + trailerRoomBytes, bufferLimitMs, this.options);
    } catch (error) {
      if (error instanceof BufferTimeoutError) throw new NoRoomError('no buffer became free', { cause: error });
      throw error;
    }
    this.#buffer = larger;
    if (known === undefined) return larger;
    known.copy(larger, 0, 0, this.#filled);
    this.#give(known);
    return larger;
  }

  #give(buffer: Buffer): void {
    this.options.buffers.give(buffer, this.options);
  }

  async #flushBlock(): Promise<void> {
    const buffer = this.#buffer as Buffer;
    if (this.#isFlushing) await this.#flushing;
    this.#throwIfFaulty();
    this.#addSum(buffer, blockBytes);
    this.#buffer = undefined;
    this.#filled = 0;
    this.#isFlushing = true;
    this.#flushing = this.#put(buffer, blockBytes).then(
      () => this.#endFlush(buffer),
      (error: unknown) => {
        this.#fault ??= error;
        this.#endFlush(buffer);
      },
    );
  }

  #addSum(buffer: Buffer, bytes: number): void {
    this.#complete = { block: this.#sums.length, buffer };
    this.#sums.push(crc32(buffer.subarray(0, bytes)));
    this.options.onReadable?.();
  }

  #endFlush(buffer: Buffer): void {
    this.#complete = undefined;
    this.#isFlushing = false;
    this.#give(buffer);
  }

  async #put(buffer: Buffer, length: number): Promise<void> {
    const { files, temporaryPath } = this.options;
    await this.#takeRoom(this.#writtenBytes + length);
    this.#fd ??= await files.open(temporaryPath, this.options.onReadable === undefined ? 'wx' : 'wx+', 0o600);
    for (let at = 0; at < length; ) {
      const piece = at === 0 ? buffer : buffer.subarray(at);
      const written = await files.write(this.#fd, piece, length - at, this.#writtenBytes);
      at += written;
      this.#writtenBytes += written;
    }
    this.options.onReadable?.();
  }

  /** Takes room for the first `bytes` of the file, and some in advance for the rest of the body. */
  async #takeRoom(bytes: number): Promise<void> {
    const needed = blocksOf(bytes) * fileBlockBytes - this.#takenBytes;
    if (needed <= 0) return;
    const { space, length, charge } = this.options;
    const toCome = length === undefined ? aheadBytes : Math.max(0, length - bytes + 4 * blockCount(length) + 2048);
    const wanted =
      this.#writtenBytes === 0 && length === undefined ? needed : needed + blocksOf(Math.min(aheadBytes, toCome)) * fileBlockBytes;
    const files = this.#takenBytes === 0 ? 1 : 0;
    charge(needed);
    const taken = space.tryTake(wanted, files) ? wanted : (await space.take(needed, files)) ? needed : 0;
    charge(taken - needed);
    if (taken === 0) throw new NoRoomError('no room became free');
    this.#takenBytes += taken;
    const kept = Math.min(this.#reservedBytes, taken);
    this.#reservedBytes -= kept;
    space.release(kept);
  }

  #releaseReservation(): void {
    this.options.space.release(this.#reservedBytes);
    this.#reservedBytes = 0;
  }

  #dropBuffer(): void {
    if (this.#buffer !== undefined) this.#give(this.#buffer);
    this.#buffer = undefined;
    this.#complete = undefined;
  }

  #close(): void {
    if (this.#fd !== undefined) this.options.files.close(this.#fd);
    this.#fd = undefined;
  }

  #throwIfFaulty(): void {
    if (this.#fault !== undefined) throw this.#fault;
  }
}

function bytesOf(sums: Uint32Array): Buffer {
  return Buffer.from(sums.buffer, sums.byteOffset, sums.byteLength);
}
