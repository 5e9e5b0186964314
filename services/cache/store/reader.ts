/** Reads pieces of open objects: at once from the page cache, through the thread pool from the disk. */

import type { Counters } from '../counters.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import type { Files } from '../disk/files.ts';
import type { LoadedBodies, LoadedBody } from './loaded-bodies.ts';
import { CorruptObjectError, type OpenObject } from './open-object.ts';
import type { PageCacheWindow } from './page-cache-window.ts';
import type { Store } from './store.ts';

interface ReaderOptions {
  readonly files: Files;
  readonly store: Store;
  readonly loaded: LoadedBodies;
  readonly window: PageCacheWindow;
  readonly counters: Counters;
  /** Blocks that this process has read from the disk so far (getrusage). */
  readonly diskReads: () => number;
  readonly health: FaultSink;
}

/** Bytes [from, to) of the file, and whether they are expected to be in the page cache. */
interface Piece {
  readonly from: number;
  readonly to: number;
  readonly isWarm: boolean;
}

/** One in so many synchronous reads is watched: getrusage costs 3 µs. */
const sampleEvery = 32;

export class Reader {
  readonly #options: ReaderOptions;
  #poolReads = 0;
  #untilSample = sampleEvery;

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** The whole body, when it came with the opening and no reader took it yet. The caller gives its buffer back to the pool. */
  takeLoaded(object: OpenObject): LoadedBody | undefined {
    return this.#options.loaded.take(object);
  }

  /** Reads a piece of the object into `buffer` at `offset` and checks it: at once when it is warm. Rejects as `fail` says. */
  async read(object: OpenObject, piece: Piece, buffer: Buffer, offset: number): Promise<void> {
    if (piece.isWarm) this.readNow(object, piece, buffer, offset);
    else await this.#readFromPool(object, piece, buffer, offset);
  }

  /** The same without a wait, for what is expected to be in the page cache. Throws as `fail` says. */
  readNow(object: OpenObject, piece: Piece, buffer: Buffer, offset: number): void {
    this.#options.counters.syncReads += 1;
    this.#untilSample -= 1;
    // With a pool read under way getrusage would count its blocks too.
    const isSample = this.#untilSample <= 0 && this.#poolReads === 0;
    const before = isSample ? this.#options.diskReads() : 0;
    try {
      const got = this.#options.files.readSync(object.fd, buffer, offset, piece.to - piece.from, piece.from);
      this.#check(object, piece, buffer.subarray(offset, offset + got));
    } catch (error) {
      throw this.#fail(object, error);
    }
    if (!isSample) return;
    this.#untilSample = sampleEvery;
    if (this.#options.diskReads() > before) this.#noteColdRead();
  }

  #noteColdRead(): void {
    this.#options.counters.coldSyncReads += 1;
    this.#options.window.shrink();
  }

  async #readFromPool(object: OpenObject, { from, to }: Piece, buffer: Buffer, offset: number): Promise<void> {
    this.#options.counters.pooledReads += 1;
    this.#poolReads += 1;
    try {
      const got = await this.#options.files.read(object.fd, buffer, offset, to - from, from);
      this.#check(object, { from, to, isWarm: false }, buffer.subarray(offset, offset + got));
    } catch (error) {
      throw this.#fail(object, error);
    } finally {
      this.#poolReads -= 1;
    }
  }

  #check(object: OpenObject, { from, to }: Piece, bytes: Buffer): void {
    if (bytes.length !== to - from) throw new CorruptObjectError('the file became shorter');
    object.check(bytes, from);
  }

  /** A damaged object is looked at again and dropped, so that the next GET is a miss; a disk that cannot read it is told apart by its error. */
  #fail(object: OpenObject, error: unknown): unknown {
    if (error instanceof CorruptObjectError) void this.#options.store.drop(object);
    else this.#options.health.note(error, 'read');
    return error;
  }
}
