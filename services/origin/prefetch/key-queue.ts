/** Pure: the keys of a job that no worker has taken yet. */

/** What a key costs in memory besides its characters. */
const keyCostBytes = 32;

export class KeyQueue {
  readonly #maxBytes: number;
  #keys: string[] = [];
  #taken = 0;
  #bytes = 0;
  #isComplete = false;
  /** One of each worker, and one of the lister. */
  readonly #waiting = new Set<() => void>();

  constructor({ maxBytes }: { maxBytes: number }) {
    this.#maxBytes = maxBytes;
  }

  get hasRoom(): boolean {
    return this.#bytes < this.#maxBytes;
  }

  push(key: string): void {
    this.#keys.push(key);
    this.#bytes += key.length + keyCostBytes;
    this.#wake();
  }

  /** No key follows. */
  complete(): void {
    this.#isComplete = true;
    this.#wake();
  }

  /** Undefined after the last key. Rejects when the signal aborts. */
  async next(signal: AbortSignal): Promise<string | undefined> {
    for (;;) {
      const key = this.#keys[this.#taken];
      if (key !== undefined) {
        this.#take(key);
        return key;
      }
      if (this.#isComplete) return undefined;
      await this.#change(signal);
    }
  }

  /** Resolves when there is room for further keys. */
  async room(signal: AbortSignal): Promise<void> {
    while (!this.hasRoom) await this.#change(signal);
  }

  clear(): void {
    this.#keys = [];
    this.#taken = 0;
    this.#bytes = 0;
  }

  #take(key: string): void {
    this.#taken++;
    this.#bytes -= key.length + keyCostBytes;
    // Frees the memory of taken keys. Each key is copied once on average.
    if (this.#taken * 2 > this.#keys.length) {
      this.#keys = this.#keys.slice(this.#taken);
      this.#taken = 0;
    }
    if (this.hasRoom) this.#wake();
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  async #change(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    const abort = (): void => resolve();
    signal.addEventListener('abort', abort, { once: true });
    await promise;
    this.#waiting.delete(resolve);
    signal.removeEventListener('abort', abort);
    signal.throwIfAborted();
  }
}
