/**
 * Pure: serializes the changes of one file. The thread pool runs calls in any order. Without the mutex, the unlink of an evicted version
 * could remove the next version.
 */

export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` after all earlier work for the name has succeeded or failed. */
  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(name);
    const mine = before === undefined ? work() : before.then(work);
    const tail = mine.then(ignore, ignore);
    this.#tails.set(name, tail);
    try {
      return await mine;
    } finally {
      if (this.#tails.get(name) === tail) this.#tails.delete(name);
    }
  }

  isBusy(name: string): boolean {
    return this.#tails.has(name);
  }

  /** Resolves when all work that was started until now has ended. */
  async drained(): Promise<void> {
    await Promise.all(this.#tails.values());
  }

  /** Resolves when the current work for a name has ended. */
  async settled(name: string): Promise<void> {
    await this.#tails.get(name);
  }
}

function ignore(): void {}
