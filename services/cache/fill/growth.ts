/** The file of a fill while it grows. Its readers get each block as soon as it is written, and they check its sum as in a stored object. */
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
  #fd: number | undefined;
  #opening: Promise<void> | undefined;
  #sums = new Uint32Array(0);
  #stored: OpenObject | undefined;
  #isFinished = false;
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
    return this.#file !== undefined && this.#availableBytes === this.length;
  }

  /** The file for readers. It exists when a byte is available. */
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

  /** Call it after each write of the upload. */
  readonly onWritten = (): void => {
    if (this.length === undefined) return;
    // The file has another descriptor for its readers.
    this.#opening ??= this.#open().catch(() => {});
    this.#advance();
  };

  /** Makes the whole file readable. Resolves with false if it cannot be opened. */
  async complete(written: WrittenFile): Promise<boolean> {
    this.#isFinished = true;
    this.length ??= written.meta.length;
    this.#opening ??= this.#open().catch(() => {});
    await this.#opening;
    if (this.#file === undefined) return false;
    this.#advance();
    return true;
  }

  /** Gives the complete file its name. Rejects as Store.place does. */
  place(written: WrittenFile, condition: Condition): Promise<void> {
    this.#placing = this.#place(written, condition);
    return this.#placing;
  }

  async #place(written: WrittenFile, condition: Condition): Promise<void> {
    this.#stored = await this.#options.store.place(this.#upload as Upload, written, { condition, fd: this.#fd });
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

  /** No more bytes come. The fill itself leaves. */
  end(): void {
    this.#isEnded = true;
    this.#wake();
    this.leave();
  }

  async #open(): Promise<void> {
    const { store, key, contentType } = this.#options;
    const upload = this.#upload as Upload;
    const fd = await store.openTemporary(upload);
    this.#fd = fd;
    const length = this.length as number;
    this.#sums = new Uint32Array(blockCount(length));
    const { namespace, origin } = upload.options;
    const names = { key, namespace, serviceAccount: '', pod: '', origin, originVersion: '' };
    const trailer = { ...names, contentType, contentEncoding: '', length, fileBytes: length, committedAt: 0n, sumOfSums: 0 };
    this.#file = new OpenObject({ trailer, sums: this.#sums, fd, row: noRow, close: () => void this.#release() });
    this.#advance();
  }

  #advance(): void {
    if (this.#file === undefined) return;
    const { writtenBytes, sums } = this.#upload as Upload;
    const length = this.length as number;
    const blocks = writtenBytes >= length ? this.#sums.length : Math.floor(writtenBytes / blockBytes);
    for (let block = Math.floor(this.#availableBytes / blockBytes); block < blocks; block += 1) this.#sums[block] = sums[block] as number;
    this.#availableBytes = Math.min(length, blocks * blockBytes);
    this.#wake();
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
    void Promise.resolve(this.#opening).then(() => {
      if (this.#file !== undefined) this.#file.release();
      else void this.#release();
    });
  }

  /** Nobody reads the file any more. A stored file belongs to its object. */
  async #release(): Promise<void> {
    const { store, onSettled } = this.#options;
    // The fill does not wait for a late call.
    await this.#placing?.catch(() => {});
    if (this.#stored !== undefined) this.#stored.release();
    else if (this.#fd !== undefined) store.close(this.#fd);
    if (this.#isPlaced) return;
    await (this.#isFinished ? this.#upload?.discard() : this.#upload?.abort());
    onSettled();
  }
}
