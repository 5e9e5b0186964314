/**
 * The body of a fill while it grows. Its readers get each block as soon as it is complete: from the buffer of the upload, or else from the
 * file. They check the sums of bytes from the file, as in a stored object.
 */
import type { Key } from '../../shared/key.ts';
import { blockBytes, blockCount } from '../disk/trailer.ts';
import { noRow } from '../index/object-index.ts';
import type { Condition } from '../store/condition.ts';
import { OpenObject } from '../store/open-object.ts';
import type { Store } from '../store/store.ts';
import type { Upload, WrittenFile } from '../store/upload.ts';

interface GrowthOptions {
  readonly store: Store;
  readonly key: Key;
  readonly contentType: string;
  /** Called once: when the file is stored, or else when it is closed and its room is free. Slow readers of a stored file do not delay it. */
  readonly onSettled: () => void;
}

type Reached = 'reached' | 'ended' | 'late';

/** The bytes are neither in memory nor in the temporary file: the object has its name, or the disk has failed. */
export class GoneError extends Error {
  readonly code = 'GONE';
}

/** The file of a small object has no descriptor. */
const noDescriptor = -1;
/** A fill ends by itself when its origin stalls. This limit only ends a wait for a hung disk. */
const maxStallMs = 120_000;

/**
 * The fill and each reader hold the growth between `enter` and `leave`. After the last one has left, the file is closed. An unstored file
 * keeps its room until then, and a stored one too: the growth holds the open object, whose room counts while it has readers.
 */
export class Growth {
  /** Undefined for a body without an announced length, until the body is whole. */
  length: number | undefined;
  /** A reader has the first byte, so the fill cannot start over. */
  isSent = false;
  /** Bytes that readers can read: whole blocks, or all. */
  #availableBytes = 0;
  #file: OpenObject | undefined;
  readonly #options: GrowthOptions;
  #upload: Upload | undefined;
  #sums = new Uint32Array(0);
  #stored: OpenObject | undefined;
  #isPlaced = false;
  #placing: Promise<void> | undefined;
  #holders = 1;
  #isEnded = false;
  readonly #waiters = new Set<() => void>();

  constructor(options: GrowthOptions, length: number | undefined) {
    this.#options = options;
    this.length = length;
  }

  get availableBytes(): number {
    return this.#availableBytes;
  }

  get isWhole(): boolean {
    return this.#availableBytes === this.length;
  }

  /** Exists when a byte is available. */
  get file(): OpenObject {
    return this.#file as OpenObject;
  }

  /** Call it once, before the first write. */
  receive(upload: Upload): void {
    this.#upload = upload;
  }

  /** Returns false if the file is closed already. */
  enter(): boolean {
    if (this.#holders === 0) return false;
    this.#holders += 1;
    return true;
  }

  leave(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#close();
  }

  /** Call it when the upload has more bytes for readers. */
  readonly onReadable = (): void => {
    if (this.length !== undefined) this.#advance(this.length);
  };

  /** The upload has ended its body. */
  complete(length: number): void {
    this.length = length;
    this.#advance(length);
  }

  /** Gives the complete file its name. Rejects as Store.place does. */
  place(written: WrittenFile, condition: Condition): Promise<void> {
    this.#placing = this.#place(written, condition);
    return this.#placing;
  }

  async #place(written: WrittenFile, condition: Condition): Promise<void> {
    this.#stored = await this.#options.store.place(this.#upload as Upload, written, condition);
    this.#isPlaced = true;
    this.#options.onSettled();
  }

  /** Resolves when the first `bytes` are available (`reached`), when they will never be (`ended`), or after `limitMs` (`late`). */
  async reach(bytes: number, limitMs: number): Promise<Reached> {
    const untilMs = performance.now() + limitMs;
    while (this.#availableBytes < bytes) {
      if (this.#isEnded) return 'ended';
      if (!(await this.#change(untilMs - performance.now()))) return 'late';
    }
    return 'reached';
  }

  /** Waits for the first `bytes` in the middle of a response. */
  async waitFor(bytes: number): Promise<void> {
    if (this.#availableBytes >= bytes) return;
    const reached = await this.reach(bytes, maxStallMs);
    if (reached !== 'reached') throw new Error(`the fill has ${reached}`);
  }

  /** Copies available bytes of one block from memory. Returns false if a reader must read them from `file`. Throws GoneError. */
  copy(bytes: { from: number; to: number }, target: Buffer, offset: number): boolean {
    const upload = this.#upload as Upload;
    if (upload.copy(bytes, target, offset)) return true;
    if (this.file.fd === noDescriptor || bytes.to > upload.writtenBytes) throw new GoneError('the bytes are not readable any more');
    return false;
  }

  /** No more bytes come. The fill itself leaves. */
  end(): void {
    this.#isEnded = true;
    this.#wake();
    this.leave();
  }

  #advance(length: number): void {
    const { readableBytes, sums } = this.#upload as Upload;
    if (readableBytes === 0) return;
    this.#file ??= this.#open(length);
    const blocks = blockCount(readableBytes);
    for (let block = Math.floor(this.#availableBytes / blockBytes); block < blocks; block += 1) this.#sums[block] = sums[block] as number;
    this.#availableBytes = readableBytes;
    this.#wake();
  }

  #open(length: number): OpenObject {
    const { key, contentType } = this.#options;
    const { options, descriptor = noDescriptor } = this.#upload as Upload;
    this.#sums = new Uint32Array(blockCount(length));
    const { namespace, origin } = options;
    const names = { key, namespace, serviceAccount: '', pod: '', origin, originVersion: '' };
    const trailer = { ...names, contentType, contentEncoding: '', length, fileBytes: length, committedAt: 0n, sumOfSums: 0 };
    return new OpenObject({ trailer, sums: this.#sums, fd: descriptor, row: noRow, close: () => void this.#release() });
  }

  #wake(): void {
    for (const waiter of this.#waiters) waiter();
  }

  /** Resolves with false after `limitMs`. */
  #change(limitMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (hasChanged: boolean): void => {
        clearTimeout(timer);
        this.#waiters.delete(wake);
        resolve(hasChanged);
      };
      const wake = (): void => end(true);
      const timer = setTimeout(() => end(false), Math.max(0, limitMs));
      this.#waiters.add(wake);
    });
  }

  #close(): void {
    if (this.#file !== undefined) this.#file.release();
    else void this.#release();
  }

  /** Nobody reads the file any more. A stored file belongs to its object. */
  async #release(): Promise<void> {
    // The fill does not wait for a late call.
    await this.#placing?.catch(() => {});
    this.#stored?.release();
    if (this.#isPlaced) return;
    // The second call removes a finished file.
    await this.#upload?.abort();
    await this.#upload?.discard();
    this.#options.onSettled();
  }
}
