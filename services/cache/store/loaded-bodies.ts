/** Bodies of one block that came into memory with the opening of their object, each for its first reader: it saves a second copy out of the page cache. */
import type { BufferPool } from './buffer-pool.ts';
import type { OpenObject } from './open-object.ts';

/** A whole, checked body in a pooled buffer, with room for a response head before it. */
export interface LoadedBody {
  readonly buffer: Buffer;
  readonly offset: number;
}

export class LoadedBodies {
  readonly #buffers: BufferPool;
  readonly #bodies = new Map<OpenObject, LoadedBody>();

  constructor({ buffers }: { buffers: BufferPool }) {
    this.#buffers = buffers;
  }

  add(object: OpenObject, body: LoadedBody): void {
    this.#bodies.set(object, body);
  }

  /** The body, once. The caller gives its buffer back to the pool. */
  take(object: OpenObject): LoadedBody | undefined {
    const body = this.#bodies.get(object);
    if (body !== undefined) this.#bodies.delete(object);
    return body;
  }

  /** Gives the buffer back when no reader took the body. */
  drop(object: OpenObject): void {
    const body = this.take(object);
    if (body !== undefined) this.#buffers.give(body.buffer);
  }
}
