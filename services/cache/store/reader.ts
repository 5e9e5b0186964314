/** Reads pieces of open objects: synchronously from the page cache, or through the thread pool from the disk. */
import type { Counters } from '../counters.ts';
import { within } from '../disk/deadline.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import type { Files } from '../disk/files.ts';
import { blockBytes } from '../disk/trailer.ts';
import type { Clock } from '../index/clock.ts';
import type { LoadedBodies, LoadedBody } from './loaded-bodies.ts';
import { CorruptObjectError, type OpenObject } from './open-object.ts';
import type { PageCacheWindow } from './page-cache-window.ts';
import type { Store } from './store.ts';

interface ReaderOptions {
  readonly files: Files;
  readonly store: Store;
  readonly loaded: LoadedBodies;
  readonly window: PageCacheWindow;
  readonly clock: Clock;
  readonly counters: Counters;
  /** Blocks that this process has read from the disk so far (getrusage). */
  readonly diskReads: () => number;
  readonly health: FaultSink;
}

/** Bytes [from, to) of the file. */
interface Piece {
  readonly from: number;
  readonly to: number;
}

/** One of this many synchronous reads is measured, because getrusage takes 3 µs. */
const sampleEvery = 32;

export class Reader {
  readonly #options: ReaderOptions;
  #poolReads = 0;
  #untilSample = sampleEvery;

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** Returns the whole body if it was read with the trailer and no reader has taken it. The caller gives its buffer back. */
  takeLoaded(object: OpenObject): LoadedBody | undefined {
    return this.#options.loaded.take(object);
  }

  /**
   * The end of the bytes after `from` that are expected in the page cache, at most `to`. A block is warm if it was read and checked since
   * the open of the object, and if that read is recent.
   */
  warmEnd(object: OpenObject, { from, to }: Piece): number {
    let at = from;
    while (at < to && this.#options.window.isWarm(object.readTick(at))) at = Math.min(to, (Math.floor(at / blockBytes) + 1) * blockBytes);
    return at;
  }

  /** Reads a warm piece synchronously into `buffer` at `offset`, and checks it. Throws a disk fault or CorruptObjectError. */
  readNow(object: OpenObject, piece: Piece, buffer: Buffer, offset: number): void {
    this.#options.counters.syncReads += 1;
    this.#untilSample -= 1;
    // During a read in the thread pool, getrusage would also count the blocks of that read.
    const isSample = this.#untilSample <= 0 && this.#poolReads === 0;
    const before = isSample ? this.#options.diskReads() : 0;
    try {
      const got = this.#options.files.readSync(object.fd, buffer, offset, piece.to - piece.from, piece.from);
      this.#accept(object, piece, buffer.subarray(offset, offset + got));
    } catch (error) {
      throw this.#fail(object, error);
    }
    if (!isSample) return;
    this.#untilSample = sampleEvery;
    if (this.#options.diskReads() > before) this.#noteColdRead();
  }

  /** Like readNow, in the thread pool. Rejects with DiskTimeoutError after `limitMs`. Then the call uses the buffer until it has ended. */
  async readFromPool(
    object: OpenObject,
    piece: Piece,
    buffer: Buffer,
    { offset, limitMs }: { offset: number; limitMs: number },
  ): Promise<void> {
    const { counters, files, window, clock } = this.#options;
    const { from, to } = piece;
    counters.pooledReads += 1;
    this.#poolReads += 1;
    const reading = files.read(object.fd, buffer, offset, to - from, from).finally(() => {
      this.#poolReads -= 1;
    });
    try {
      const got = await within(limitMs, reading);
      this.#accept(object, piece, buffer.subarray(offset, offset + got));
    } catch (error) {
      throw this.#fail(object, error);
    }
    window.entered(to - from, clock.tick());
  }

  #noteColdRead(): void {
    this.#options.counters.coldSyncReads += 1;
    this.#options.window.shrink();
  }

  #accept(object: OpenObject, { from, to }: Piece, bytes: Buffer): void {
    if (bytes.length !== to - from) throw new CorruptObjectError('the file became shorter');
    object.accept(bytes, from, this.#options.clock.tick());
  }

  /** Drops a damaged object, so that the next GET is a miss. Reports a disk fault. Returns the error. */
  #fail(object: OpenObject, error: unknown): unknown {
    if (error instanceof CorruptObjectError) void this.#options.store.drop(object);
    else this.#options.health.note(error, 'read');
    return error;
  }
}
