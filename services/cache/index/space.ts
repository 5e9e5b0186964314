/** Pure: who may use how many bytes and files. Nothing is written before its room is taken here, so the bounds hold at every instant. */

export const fileBlockBytes = 4096;

/** What a file of this size takes, in whole blocks. */
export function blocksOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / fileBlockBytes);
}

export interface SpaceLimits {
  readonly maxBytes: number;
  readonly maxFiles: number;
}

/** Room kept free, so that an ordinary PUT never waits for an unlink: a sixteenth of the limit, at most this. */
const maxHeadroomBytes = 64 * 1024 * 1024;
const maxHeadroomFiles = 256;

interface Waiter {
  readonly bytes: number;
  readonly files: number;
  readonly settle: (isGranted: boolean) => void;
}

/** Uploads that wait for room at once; more are told at once that there is none. */
const maxWaiters = 10_000;

/** The room of one shard. `stored` reads what the index holds; the rest is kept here. */
export class Space {
  limits: SpaceLimits;
  readonly #stored: () => { bytes: number; files: number };
  readonly #onWait: () => void;
  /** Room of uploads in progress, of files that are being freed, and of directories and the snapshot. */
  #takenBytes = 0;
  #takenFiles = 0;
  #overheadBytes = 0;
  /** Lengths of uploads that were admitted, less what they have taken. */
  #promisedBytes = 0;
  /** Lowered while somebody else fills the disk. */
  #ceilingBytes = Number.POSITIVE_INFINITY;
  /** While files are uncounted: what was freed since the start, less what was taken. Undefined when all are counted. */
  #credit: { bytes: number; files: number } | undefined = { bytes: 0, files: 0 };
  readonly #waiters: Waiter[] = [];

  /** `onWait` is told when somebody has to wait: it must see to it that the wait ends. */
  constructor(options: { limits: SpaceLimits; stored: () => { bytes: number; files: number }; onWait: () => void }) {
    this.limits = options.limits;
    this.#onWait = options.onWait;
    this.#stored = options.stored;
  }

  get usedBytes(): number {
    return this.#stored().bytes + this.#takenBytes + this.#overheadBytes;
  }

  get usedFiles(): number {
    return this.#stored().files + this.#takenFiles;
  }

  get reservedBytes(): number {
    return this.#takenBytes;
  }

  get limitBytes(): number {
    return Math.min(this.limits.maxBytes, this.#ceilingBytes);
  }

  get headroom(): { bytes: number; files: number } {
    return {
      bytes: Math.min(maxHeadroomBytes, this.limitBytes / 16),
      files: Math.min(maxHeadroomFiles, Math.ceil(this.limits.maxFiles / 16)),
    };
  }

  /** What objects may take, uploads in progress included, while the headroom is kept: what shares are parts of. */
  get usable(): { bytes: number; files: number } {
    const { bytes, files } = this.headroom;
    return { bytes: this.limitBytes - this.#overheadBytes - bytes, files: this.limits.maxFiles - files };
  }

  get freeBytes(): number {
    const free = this.limitBytes - this.usedBytes;
    return this.#credit === undefined ? free : Math.min(free, this.#credit.bytes);
  }

  get freeFiles(): number {
    const free = this.limits.maxFiles - this.usedFiles;
    return this.#credit === undefined ? free : Math.min(free, this.#credit.files);
  }

  get isCounted(): boolean {
    return this.#credit === undefined;
  }

  /** All files are counted: from now on the limit alone holds. */
  markCounted(): void {
    this.#credit = undefined;
    this.#grant();
  }

  setOverhead(bytes: number): void {
    this.#overheadBytes = bytes;
  }

  /** Somebody else fills the disk: less is usable until `lift`. */
  lower(bytes: number): void {
    this.#ceilingBytes = bytes;
  }

  lift(): void {
    this.#ceilingBytes = Number.POSITIVE_INFINITY;
    this.#grant();
  }

  /** Whether an upload of this length may start, given what others were promised. It takes nothing yet: a promise evicts nothing (decisions.md). */
  promise(bytes: number): boolean {
    if (this.#promisedBytes + this.#takenBytes + bytes > this.limitBytes - this.#overheadBytes) return false;
    this.#promisedBytes += bytes;
    return true;
  }

  unpromise(bytes: number): void {
    this.#promisedBytes -= bytes;
  }

  fits(bytes: number, files: number): boolean {
    return bytes <= this.freeBytes && files <= this.freeFiles;
  }

  /** Takes room at once, or not at all. Those who wait come first. */
  tryTake(bytes: number, files: number): boolean {
    if (this.#waiters.length > 0 || !this.fits(bytes, files)) return false;
    this.#move(bytes, files);
    return true;
  }

  /** Takes room as soon as it is there; false when `refuseWaiters` said that there will be none, or too many wait. */
  take(bytes: number, files: number): Promise<boolean> {
    if (this.tryTake(bytes, files)) return Promise.resolve(true);
    if (this.#waiters.length >= maxWaiters) return Promise.resolve(false);
    return new Promise((settle) => {
      this.#waiters.push({ bytes, files, settle });
      this.#onWait();
    });
  }

  /** What those who wait are short of; undefined when nobody waits. */
  get wanted(): { bytes: number; files: number } | undefined {
    const first = this.#waiters[0];
    return first === undefined ? undefined : { bytes: first.bytes, files: first.files };
  }

  /** Nothing more can be freed: the first in the queue cannot be served. */
  refuseFirst(): void {
    this.#waiters.shift()?.settle(false);
    this.#grant();
  }

  /** Gives room back: a file is gone, an upload ended. */
  giveBack(bytes: number, files: number): void {
    this.#move(-bytes, -files);
    this.#grant();
  }

  /** Stored room becomes room of a file that is being freed, after the index let go of it; it counts until `giveBack`. */
  doom(bytes: number, files: number): void {
    this.#takenBytes += bytes;
    this.#takenFiles += files;
  }

  /** Room taken by an upload becomes stored room, in the moment the index takes the file on. */
  settle(bytes: number, files: number): void {
    this.#takenBytes -= bytes;
    this.#takenFiles -= files;
  }

  /** Room that a file was thought to take and does not: it was gone already, so nothing was freed by us. */
  forget(bytes: number, files: number): void {
    this.#takenBytes -= bytes;
    this.#takenFiles -= files;
    this.#grant();
  }

  #move(bytes: number, files: number): void {
    this.#takenBytes += bytes;
    this.#takenFiles += files;
    if (this.#credit === undefined) return;
    this.#credit.bytes -= bytes;
    this.#credit.files -= files;
  }

  #grant(): void {
    for (let first = this.#waiters[0]; first !== undefined && this.fits(first.bytes, first.files); first = this.#waiters[0]) {
      this.#waiters.shift();
      this.#move(first.bytes, first.files);
      first.settle(true);
    }
  }
}
