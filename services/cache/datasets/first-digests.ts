/** Pure: collects the first digests after a given one, in the order of file names, from digests in any order. */
import type { Digest } from '../digest.ts';

export class FirstDigests {
  readonly #max: number;
  readonly #after: Digest | undefined;
  #kept: Digest[] = [];
  /** Later digests are not needed any more. */
  #last: Digest | undefined;

  constructor({ max, after }: { max: number; after: Digest | undefined }) {
    this.#max = max;
    this.#after = after;
  }

  offer(digest: Digest): void {
    if (this.#last !== undefined && compare(digest, this.#last) >= 0) return;
    if (this.#after !== undefined && compare(digest, this.#after) <= 0) return;
    this.#kept.push(digest);
    // One sort for each `max` digests, so that most of them cost one comparison.
    if (this.#kept.length >= 2 * this.#max) this.#cut();
  }

  /** In order, each once. At most `max`; `hasMore` tells whether others follow. */
  take(): { digests: Digest[]; hasMore: boolean } {
    this.#cut();
    return { digests: this.#kept, hasMore: this.#last !== undefined };
  }

  #cut(): void {
    this.#kept.sort(compare);
    // A row that is used during a walk is offered twice.
    this.#kept = this.#kept.filter((digest, at) => at === 0 || compare(digest, this.#kept[at - 1] as Digest) !== 0);
    if (this.#kept.length <= this.#max) return;
    this.#kept.length = this.#max;
    this.#last = this.#kept.at(-1);
  }
}

function compare(one: Digest, other: Digest): number {
  return one.a - other.a || one.b - other.b || one.c - other.c;
}
