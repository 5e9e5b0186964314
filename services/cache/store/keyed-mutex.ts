/** Pure: changes to one file happen one after the other. The thread pool runs calls in any order: without turns, the unlink of an evicted version could remove the one that was written next. */

export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` when every earlier work under the same name has ended, well or not. */
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

  /** Resolves when the works that are under way for a name have ended. */
  async settled(name: string): Promise<void> {
    await this.#tails.get(name);
  }
}

function ignore(): void {}
