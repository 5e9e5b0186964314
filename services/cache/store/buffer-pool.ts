/**
 * Reusable buffers of four sizes for bodies in transfer. Their total has a limit for any number of clients. Uploads get at most half of
 * the limit, and the uploads of one namespace a quarter, so that slow uploads never stop readers or other namespaces.
 */
import { blockBytes } from '../disk/trailer.ts';

/** Space beside a block, for a response head before it or the trailer of a small object after it. */
const marginBytes = 16 * 1024;
/** Most bytes of one write to a client. */
export const maxWriteBytes = 4 * blockBytes;
/** Small: most objects of some data sets (labels, records). Medium: an upload that has just started. Large: a block. Huge: one write. */
const sizes = [16 * 1024, 64 * 1024 + marginBytes, blockBytes + marginBytes, maxWriteBytes + marginBytes] as const;
const [largeBytes, hugeBytes] = [sizes[2], sizes[3]];
/** Requests that wait for a buffer at the same time. Further requests fail at once. */
const maxWaiters = 20_000;

/** No buffer became free in time. */
export class BufferTimeoutError extends Error {
  readonly code = 'BUFFER_TIMEOUT';
}

/** The namespace of an upload; undefined for a reader. */
type Owner = { readonly namespace: string } | undefined;

interface Waiter {
  readonly bytes: number;
  readonly owner: Owner;
  readonly settle: (buffer: Buffer) => void;
}

export class BufferPool {
  readonly #maxBytes: number;
  readonly #free = new Map<number, Buffer[]>(sizes.map((size) => [size, []]));
  /** The fewest unused buffers of each size since the last `trim`. */
  readonly #leastFree = new Map<number, number>(sizes.map((size) => [size, 0]));
  readonly #waiters = new Set<Waiter>();
  /** Memory of all buffers, used or not. */
  allocatedBytes = 0;
  #usedBytes = 0;
  /** Bytes of request bodies that wait in memory outside the buffers. */
  #heldBytes = 0;
  #uploadBytes = 0;
  readonly #namespaceBytes = new Map<string, number>();

  constructor({ maxBytes }: { maxBytes: number }) {
    this.#maxBytes = Math.max(maxBytes, largeBytes * 8);
  }

  get usedBytes(): number {
    return this.#usedBytes + this.#heldBytes;
  }

  get waiters(): number {
    return this.#waiters.size;
  }

  /** Whether the limit is reached. Then request bodies must pause. */
  get isExhausted(): boolean {
    return this.usedBytes >= this.#maxBytes;
  }

  /** A buffer of at least `bytes` (at most one write and its margin), or undefined when the limit is reached. */
  tryTake(bytes: number, owner?: Owner): Buffer | undefined {
    const size = sizeOf(bytes);
    if (owner !== undefined && !this.#mayUpload(size, owner.namespace)) return undefined;
    const buffer = this.#reuse(size) ?? this.#allocate(size);
    if (buffer === undefined) return undefined;
    this.#usedBytes += size;
    if (owner !== undefined) this.#countUpload(size, owner.namespace);
    return buffer;
  }

  /** Like tryTake, for an optional buffer. Returns undefined if more than a quarter of the limit is in use or if requests wait. */
  trySpare(bytes: number): Buffer | undefined {
    return this.#waiters.size > 0 || this.usedBytes > this.#maxBytes / 4 ? undefined : this.tryTake(bytes);
  }

  /** Like tryTake, but waits in a queue. Rejects with BufferTimeoutError after `limitMs`, or at once if the queue is full. */
  async take(bytes: number, limitMs: number, owner?: Owner): Promise<Buffer> {
    const buffer = this.#waiters.size === 0 ? this.tryTake(bytes, owner) : undefined;
    if (buffer !== undefined) return buffer;
    if (this.#waiters.size >= maxWaiters) throw new BufferTimeoutError('too many requests wait for a buffer');
    return await new Promise<Buffer>((resolve, reject) => {
      const waiter: Waiter = {
        bytes,
        owner,
        settle: (free) => {
          clearTimeout(timer);
          resolve(free);
        },
      };
      const timer = setTimeout(
        () => {
          this.#waiters.delete(waiter);
          reject(new BufferTimeoutError(`no buffer became free within ${limitMs} ms`));
          // The next request in the queue may need a smaller buffer.
          this.#serve();
        },
        Math.max(0, limitMs),
      );
      this.#waiters.add(waiter);
      this.#serve();
    });
  }

  /** Returns a buffer that its owner no longer uses. */
  give(buffer: Buffer, owner?: Owner): void {
    this.#usedBytes -= buffer.length;
    if (owner !== undefined) this.#countUpload(-buffer.length, owner.namespace);
    (this.#free.get(buffer.length) as Buffer[]).push(buffer);
    this.#serve();
  }

  /** Counts bytes of a request body that wait for the upload, and with a negative number when the upload has taken them. */
  hold(bytes: number): void {
    this.#heldBytes += bytes;
    if (bytes < 0) this.#serve();
  }

  /** Frees the memory of buffers that no request has used since the last call. */
  trim(): void {
    for (const [size, free] of this.#free) {
      const unused = free.splice(0, Math.min(free.length, this.#leastFree.get(size) ?? 0));
      this.allocatedBytes -= unused.length * size;
      this.#leastFree.set(size, free.length);
    }
  }

  #serve(): void {
    for (const waiter of this.#waiters) {
      const buffer = this.tryTake(waiter.bytes, waiter.owner);
      if (buffer === undefined) {
        // A reader waits for the total limit, which stops all requests after it. An upload may wait for the limit of uploads only.
        if (waiter.owner === undefined) return;
        continue;
      }
      this.#waiters.delete(waiter);
      waiter.settle(buffer);
    }
  }

  #mayUpload(bytes: number, namespace: string): boolean {
    return this.#uploadBytes + bytes <= this.#maxBytes / 2 && (this.#namespaceBytes.get(namespace) ?? 0) + bytes <= this.#maxBytes / 4;
  }

  #countUpload(bytes: number, namespace: string): void {
    this.#uploadBytes += bytes;
    const sum = (this.#namespaceBytes.get(namespace) ?? 0) + bytes;
    if (sum === 0) this.#namespaceBytes.delete(namespace);
    else this.#namespaceBytes.set(namespace, sum);
  }

  #reuse(size: number): Buffer | undefined {
    const free = this.#free.get(size) as Buffer[];
    const buffer = free.pop();
    if (free.length < (this.#leastFree.get(size) as number)) this.#leastFree.set(size, free.length);
    return buffer;
  }

  #allocate(size: number): Buffer | undefined {
    if (!this.#hasRoom(size)) this.#dropUnused(size);
    if (!this.#hasRoom(size)) return undefined;
    this.allocatedBytes += size;
    return Buffer.allocUnsafeSlow(size);
  }

  #hasRoom(bytes: number): boolean {
    return this.allocatedBytes + this.#heldBytes + bytes <= this.#maxBytes;
  }

  /** Drops unused buffers of other sizes until `bytes` more may be allocated. */
  #dropUnused(bytes: number): void {
    for (const free of this.#free.values()) {
      while (free.length > 0 && !this.#hasRoom(bytes)) this.allocatedBytes -= (free.pop() as Buffer).length;
    }
  }
}

function sizeOf(bytes: number): number {
  return sizes.find((size) => bytes <= size) ?? hugeBytes;
}
