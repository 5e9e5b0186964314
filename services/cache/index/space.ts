/**
 * Pure: the bytes and files that a shard may use. Nothing is written before its room is taken here, so the limits hold at every instant.
 *
 * Room has one of these states: stored (the index has the object), uploading (a PUT in progress), pending delete (the file is removed, but
 * the file system has not freed its blocks), and overhead (folders and the snapshot). A reservation is not room. It limits how much the
 * admitted uploads may still take, and it evicts nothing.
 */

export const fileBlockBytes = 4096;

/** The blocks that a file of this size takes. */
export function blocksOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / fileBlockBytes);
}

export interface SpaceLimits {
  readonly maxBytes: number;
  readonly maxFiles: number;
}

export interface Room {
  readonly bytes: number;
  readonly files: number;
}

/** Room kept free, so that an ordinary PUT never waits for an unlink: a sixteenth of the limit, at most this. */
const maxHeadroomBytes = 64 * 1024 * 1024;
const maxHeadroomFiles = 256;

interface Waiter extends Room {
  readonly settle: (isGranted: boolean) => void;
}

/** Uploads that wait for room at the same time. Further uploads get no room. */
const maxWaiters = 10_000;

/** The room of one shard. `stored` returns the room of the objects in the index. */
export class Space {
  limits: SpaceLimits;
  /** Files that were stored since `setOverhead`. The folders grow with them. */
  filesSinceOverhead = 0;
  readonly #stored: () => Room;
  readonly #onWait: () => void;
  readonly #uploading = { bytes: 0, files: 0 };
  readonly #pendingDelete = { bytes: 0, files: 0 };
  #overheadBytes = 0;
  /** Lengths of admitted uploads, minus the room that they have taken. */
  #uploadReservedBytes = 0;
  /** Lowered while another program fills the disk. */
  #ceilingBytes = Number.POSITIVE_INFINITY;
  /** Until all files are counted: the room that was freed since the start, minus the room that was taken. Undefined afterwards. */
  #credit: { bytes: number; files: number } | undefined = { bytes: 0, files: 0 };
  readonly #waiters: Waiter[] = [];

  /** `onWait` is called when an upload has to wait. It must make sure that the wait ends. */
  constructor(options: { limits: SpaceLimits; stored: () => Room; onWait: () => void }) {
    this.limits = options.limits;
    this.#onWait = options.onWait;
    this.#stored = options.stored;
  }

  get usedBytes(): number {
    return this.#stored().bytes + this.reservedBytes + this.#overheadBytes;
  }

  get usedFiles(): number {
    return this.#stored().files + this.unstoredFiles;
  }

  /** Bytes of uploads in progress and of files that are being freed. */
  get reservedBytes(): number {
    return this.#uploading.bytes + this.#pendingDelete.bytes;
  }

  /** Files without a row in the index: uploads in progress, and removed files that still have blocks. */
  get unstoredFiles(): number {
    return this.#uploading.files + this.#pendingDelete.files;
  }

  get limitBytes(): number {
    return Math.min(this.limits.maxBytes, this.#ceilingBytes);
  }

  get headroom(): Room {
    return {
      bytes: Math.min(maxHeadroomBytes, this.limitBytes / 16),
      files: Math.min(maxHeadroomFiles, Math.ceil(this.limits.maxFiles / 16)),
    };
  }

  /** The room for objects, uploads in progress included, while the headroom is kept. Shares are parts of it. */
  get usable(): Room {
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

  /** Call it when all files are counted. From then on only the limits apply. */
  markCounted(): void {
    this.#credit = undefined;
    this.#grant();
  }

  /** `bytes`: of the folders and the snapshot. */
  setOverhead(bytes: number): void {
    this.#overheadBytes = bytes;
    this.filesSinceOverhead = 0;
  }

  /** Lowers the byte limit until `lift`, while another program fills the disk. */
  lower(bytes: number): void {
    this.#ceilingBytes = bytes;
  }

  lift(): void {
    this.#ceilingBytes = Number.POSITIVE_INFINITY;
    this.#grant();
  }

  /** Reserves the length of an upload. Returns false if other uploads leave too little. It takes no room yet and evicts nothing. */
  reserve(bytes: number): boolean {
    if (this.#uploadReservedBytes + this.reservedBytes + bytes > this.limitBytes - this.#overheadBytes) return false;
    this.#uploadReservedBytes += bytes;
    return true;
  }

  /** Returns a part of a reservation: its room was taken, or the upload ended. */
  release(bytes: number): void {
    this.#uploadReservedBytes -= bytes;
  }

  fits(bytes: number, files: number): boolean {
    return bytes <= this.freeBytes && files <= this.freeFiles;
  }

  /** Takes room for an upload at once, or not at all. Waiting uploads come first. */
  tryTake(bytes: number, files: number): boolean {
    if (this.#waiters.length > 0 || !this.fits(bytes, files)) return false;
    this.#move(this.#uploading, bytes, files);
    return true;
  }

  /** Takes room for an upload when enough is free. Resolves with false if no more can be freed (`refuseFirst`) or too many uploads wait. */
  take(bytes: number, files: number): Promise<boolean> {
    if (this.tryTake(bytes, files)) return Promise.resolve(true);
    if (this.#waiters.length >= maxWaiters) return Promise.resolve(false);
    return new Promise((settle) => {
      this.#waiters.push({ bytes, files, settle });
      this.#onWait();
    });
  }

  /** The room that the first waiting upload needs; undefined when none waits. */
  get wanted(): Room | undefined {
    return this.#waiters[0];
  }

  /** Call it when nothing more can be freed. Rejects the first waiting upload. */
  refuseFirst(): void {
    this.#waiters.shift()?.settle(false);
    this.#grant();
  }

  /** Returns room of an upload. */
  giveBack(bytes: number, files: number): void {
    this.#move(this.#uploading, -bytes, -files);
    this.#grant();
  }

  /** Turns room of an upload into stored room. Call it in the same turn of the event loop as the new row. */
  commit(bytes: number, files: number): void {
    this.#uploading.bytes -= bytes;
    this.#uploading.files -= files;
    this.filesSinceOverhead += files;
  }

  /** Turns stored room into room of a file that is being freed. Call it in the same turn of the event loop as the removal of the row. */
  beginDelete(bytes: number, files: number): void {
    this.#pendingDelete.bytes += bytes;
    this.#pendingDelete.files += files;
  }

  /** Call it when the file system has freed the room. */
  endDelete(bytes: number, files: number): void {
    this.#move(this.#pendingDelete, -bytes, -files);
    this.#grant();
  }

  /** For a file that could not be removed. Call it in the same turn of the event loop as the restored row. */
  cancelDelete(bytes: number, files: number): void {
    this.#pendingDelete.bytes -= bytes;
    this.#pendingDelete.files -= files;
  }

  /** For a file that was already gone. The shard has freed nothing, so only the counts change. */
  forgetDelete(bytes: number, files: number): void {
    this.#pendingDelete.bytes -= bytes;
    this.#pendingDelete.files -= files;
    this.#grant();
  }

  #move(state: { bytes: number; files: number }, bytes: number, files: number): void {
    state.bytes += bytes;
    state.files += files;
    if (this.#credit === undefined) return;
    this.#credit.bytes -= bytes;
    this.#credit.files -= files;
  }

  #grant(): void {
    for (let first = this.#waiters[0]; first !== undefined && this.fits(first.bytes, first.files); first = this.#waiters[0]) {
      this.#waiters.shift();
      this.#move(this.#uploading, first.bytes, first.files);
      first.settle(true);
    }
  }
}
