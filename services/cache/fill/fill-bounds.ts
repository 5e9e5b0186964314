/**
 * Pure: how many requests a shard has open at the origin service, and the bytes of their objects. One namespace gets a part of both bounds,
 * and prefetch jobs get a part, so that a demand fill always finds a place.
 */

interface FillBoundsOptions {
  readonly maxFills: number;
  readonly maxBytes: number;
  /** Part of both bounds for one namespace, above 0 and at most 1. */
  readonly namespacePart: number;
  /** Part of both bounds for prefetch jobs, above 0 and at most 1. */
  readonly prefetchPart: number;
}

interface FillOwner {
  readonly namespace: string;
  readonly isPrefetch: boolean;
}

interface Use {
  fills: number;
  bytes: number;
}

/** A bound that applies to a fill: its part of the whole, and what is in use. */
interface Scope {
  readonly name: string;
  readonly part: number;
  readonly use: Use;
}

export class FillBounds {
  readonly #options: FillBoundsOptions;
  readonly #uses = new Map<string, Use>();

  constructor(options: FillBoundsOptions) {
    this.#options = options;
  }

  get fills(): number {
    return this.#uses.get(all)?.fills ?? 0;
  }

  get bytes(): number {
    return this.#uses.get(all)?.bytes ?? 0;
  }

  /** Undefined if a bound is reached. */
  enter(owner: FillOwner): FillSlot | undefined {
    const scopes = this.#scopes(owner);
    const isFull = ({ part, use }: Scope) => use.fills >= Math.max(1, Math.floor(this.#options.maxFills * part));
    if (scopes.some(isFull)) return undefined;
    for (const { name, use } of scopes) {
      use.fills += 1;
      this.#uses.set(name, use);
    }
    let bytes = 0;
    return {
      addBytes: (more) => {
        // An object above the bound can only be fetched alone. Otherwise it could not be fetched at all.
        const isOver = ({ part, use }: Scope) => use.bytes > bytes && use.bytes + more > this.#options.maxBytes * part;
        if (scopes.some(isOver)) return false;
        for (const { use } of scopes) use.bytes += more;
        bytes += more;
        return true;
      },
      leave: () => {
        for (const { name, use } of scopes.splice(0)) {
          use.fills -= 1;
          use.bytes -= bytes;
          if (use.fills === 0) this.#uses.delete(name);
        }
      },
    };
  }

  #scopes({ namespace, isPrefetch }: FillOwner): Scope[] {
    const { namespacePart, prefetchPart } = this.#options;
    const scope = (name: string, part: number): Scope => ({ name, part, use: this.#uses.get(name) ?? { fills: 0, bytes: 0 } });
    const scopes = [scope(all, 1), scope(`of ${namespace}`, namespacePart)];
    if (!isPrefetch) return scopes;
    return [...scopes, scope('prefetch', prefetchPart), scope(`prefetch of ${namespace}`, prefetchPart * namespacePart)];
  }
}

const all = 'all';

/** The place of one fill in all bounds. */
export interface FillSlot {
  /** Counts the length of the object. Returns false if a bound is reached. */
  addBytes(bytes: number): boolean;
  /** Gives the place back. It may be called more than once. */
  leave(): void;
}
