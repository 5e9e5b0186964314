/** Bodies of one block that were read with the trailer of their object. The first reader takes the body and needs no second read. */
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

  /** Returns the body once. The caller returns its buffer to the pool. */
  take(object: OpenObject): LoadedBody | undefined {
    const body = this.#bodies.get(object);
    if (body !== undefined) this.#bodies.delete(object);
    return body;
  }

  /** Returns the buffer to the pool if no reader has taken the body. */
  drop(object: OpenObject): void {
    const body = this.take(object);
    if (body !== undefined) this.#buffers.give(body.buffer);
  }
}
