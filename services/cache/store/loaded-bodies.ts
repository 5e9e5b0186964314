/** Bodies of one block that were read with the trailer of their object. The first reader takes the body and needs no second read. */
import type { OpenObject } from './open-object.ts';

/** A whole, checked body, with room for a response head before it. */
export interface LoadedBody {
  readonly buffer: Buffer;
  readonly offset: number;
  /** Call it after the last use of `buffer`. */
  give(): void;
}

export class LoadedBodies {
  readonly #bodies = new Map<OpenObject, LoadedBody>();

  add(object: OpenObject, body: LoadedBody): void {
    this.#bodies.set(object, body);
  }

  /** Returns the body once. The caller gives its buffer back. */
  take(object: OpenObject): LoadedBody | undefined {
    const body = this.#bodies.get(object);
    if (body !== undefined) this.#bodies.delete(object);
    return body;
  }

  /** Gives the buffer back if no reader has taken the body. */
  drop(object: OpenObject): void {
    this.take(object)?.give();
  }
}
