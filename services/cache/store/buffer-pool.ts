/** Buffers that bodies pass through: few sizes, used again, and never more of them than a bound, however many clients there are. */
import { blockBytes } from '../disk/trailer.ts';

/** Room beside one block: a response head before it, or the trailer of a small object after it. */
const marginBytes = 16 * 1024;
/** Enough for the objects that are most of some data sets (labels, small records) without the cost of a large buffer each. */
const smallBytes = 16 * 1024;
const largeBytes = blockBytes + marginBytes;

interface Waiter {
  readonly bytes: number;
  readonly settle: (buffer: Buffer) => void;
}

export class BufferPool {
  readonly #limitBytes: number;
  readonly #free = new Map<number, Buffer[]>([
    [smallBytes, []],
    [largeBytes, []],
  ]);
  readonly #waiters: Waiter[] = [];
  #allocatedBytes = 0;
  #usedBytes = 0;

  constructor({ limitBytes }: { limitBytes: number }) {
    this.#limitBytes = Math.max(limitBytes, largeBytes * 4);
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** A buffer of at least `bytes` (at most one block and its margin), or undefined when the bound is reached. */
  tryTake(bytes: number): Buffer | undefined {
    const size = bytes <= smallBytes ? smallBytes : largeBytes;
    const free = this.#free.get(size) as Buffer[];
    const buffer = free.pop();
    if (buffer !== undefined) {
      this.#usedBytes += size;
      return buffer;
    }
    if (this.#allocatedBytes + size > this.#limitBytes && !this.#shrink(size)) return undefined;
    this.#allocatedBytes += size;
    this.#usedBytes += size;
    return Buffer.allocUnsafeSlow(size);
  }

  /** The same for what is only faster with a buffer: undefined once a quarter of the bound is in use or others wait. */
  trySpare(bytes: number): Buffer | undefined {
    return this.#waiters.length > 0 || this.#usedBytes > this.#limitBytes / 4 ? undefined : this.tryTake(bytes);
  }

  /** The same, waiting in line. The wait ends because every reader and writer that holds one has a deadline. */
  async take(bytes: number): Promise<Buffer> {
    const buffer = this.#waiters.length === 0 ? this.tryTake(bytes) : undefined;
    return buffer ?? new Promise<Buffer>((settle) => this.#waiters.push({ bytes, settle }));
  }

  give(buffer: Buffer): void {
    this.#usedBytes -= buffer.length;
    (this.#free.get(buffer.length) as Buffer[]).push(buffer);
    for (let first = this.#waiters[0]; first !== undefined; first = this.#waiters[0]) {
      const next = this.tryTake(first.bytes);
      if (next === undefined) return;
      this.#waiters.shift();
      first.settle(next);
    }
  }

  /** Lets go of unused buffers of the other size; true when `bytes` more may be allocated now. */
  #shrink(bytes: number): boolean {
    for (const free of this.#free.values()) {
      while (free.length > 0 && this.#allocatedBytes + bytes > this.#limitBytes) this.#allocatedBytes -= (free.pop() as Buffer).length;
    }
    return this.#allocatedBytes + bytes <= this.#limitBytes;
  }
}
