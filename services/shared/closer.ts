/** Closes all parts of a service in reverse order, also after a start that failed half way. */
import type { Running } from './lifecycle.ts';

interface Part {
  readonly name: string;
  readonly close: () => unknown;
}

/** The open parts of a service. Register each part as soon as it is open. */
export class Closer {
  #parts: Part[] = [];

  /** `close` may return a promise. When it rejects, the error contains the name. */
  add(name: string, close: () => unknown): void {
    this.#parts.push({ name, close });
  }

  /** Closes all parts one by one, the last one first. If some of them fail, throws an AggregateError at the end. */
  async close(): Promise<void> {
    const parts = this.#parts.reverse();
    this.#parts = [];
    const failed: string[] = [];
    const errors: unknown[] = [];
    for (const { name, close } of parts) {
      try {
        await close();
      } catch (error) {
        failed.push(name);
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `cannot close ${failed.join(', ')}`);
  }
}

/**
 * Runs `start`, which registers the parts that it opens and returns their addresses. When it rejects, its parts are closed and the promise
 * rejects with the same error. If closing fails too, it rejects with an AggregateError of all errors.
 */
export async function startWithCloser(start: (closer: Closer) => Promise<Running['listening']>): Promise<Running> {
  const closer = new Closer();
  try {
    const listening = await start(closer);
    return { listening, close: () => closer.close() };
  } catch (error) {
    await closer.close().catch((fault: AggregateError) => {
      throw new AggregateError([error, ...fault.errors], `${(error as Error).message}; then ${fault.message}`, { cause: error });
    });
    throw error;
  }
}
