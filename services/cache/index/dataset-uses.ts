/** Pure: how data sets are read, learnt from a hash sample of their keys. A data set is all groups with one prefix. Time is in steps of recency (clock.ts). */

interface SampledDigest {
  readonly b: number;
  readonly c: number;
}

export interface DatasetUse {
  lastUse: number;
  /** Longest time between two uses of one sampled key, in this span and in the one before. */
  longest: number;
  longestBefore: number;
  spanStart: number;
  /** Bits that are 0 in the digests of the keys that are sampled: at first all keys are. */
  mask: number;
  /** Last use by sampled key. */
  readonly samples: Map<number, number>;
}

/** Keys sampled of one data set: enough for the longest of some hundred intervals, and all keys of a data set with few objects on the shard. */
const maxSamplesPerPrefix = 64;
const maxSamples = 65_536;
const maxPrefixes = 65_536;
/** Data sets compared when one has to be forgotten. */
const maxCompared = 8;
/** The longest interval of a sample is a little shorter than that of all. */
const guardFactor = 1.15;
/** Bits of a digest that a mask can test. */
const maskBits = 20;

export class DatasetUses {
  readonly #byPrefix = new Map<string, DatasetUse>();
  /** Stays at the front of `#byPrefix`: a new iterator would walk over the places of all that were taken out there. */
  #front = this.#byPrefix.entries();
  #samples = 0;

  /** Records a read, of a stored object or of a missing one: learnt from hits alone the guard time collapses. */
  record(prefix: string, digest: SampledDigest, tick: number): void {
    const use = this.of(prefix, tick);
    use.lastUse = tick;
    if ((digest.c & use.mask) !== 0) return;
    const before = use.samples.size;
    sample(use, digest, tick);
    this.#samples += use.samples.size - before;
    while (this.#samples > maxSamples) this.#forgetOne();
  }

  of(prefix: string, tick: number): DatasetUse {
    const known = this.#byPrefix.get(prefix);
    if (known !== undefined) return known;
    if (this.#byPrefix.size >= maxPrefixes) this.#forgetOne();
    const use: DatasetUse = { lastUse: tick, longest: 0, longestBefore: 0, spanStart: tick, mask: 0, samples: new Map() };
    this.#byPrefix.set(prefix, use);
    return use;
  }

  /** Of some data sets, forgets the one of which least is known: without a guard time, and read longest ago. */
  #forgetOne(): void {
    let worst: readonly [string, DatasetUse] | undefined;
    for (let left = Math.min(maxCompared, this.#byPrefix.size); left > 0; left -= 1) {
      const entry = this.#first();
      if (entry === undefined) return;
      const [prefix, use] = entry;
      // Behind the others, so that the next call compares others.
      this.#byPrefix.delete(prefix);
      this.#byPrefix.set(prefix, use);
      if (worst === undefined || isWorthLess(use, worst[1])) worst = entry;
    }
    if (worst === undefined) return;
    this.#byPrefix.delete(worst[0]);
    this.#samples -= worst[1].samples.size;
  }

  #first(): readonly [string, DatasetUse] | undefined {
    const { value, done } = this.#front.next();
    if (!done) return value;
    this.#front = this.#byPrefix.entries();
    return this.#front.next().value;
  }
}

/** For how long an object of the data set is kept since its last read. */
export function guardOf(use: DatasetUse): number {
  return Math.ceil(Math.max(use.longest, use.longestBefore) * guardFactor);
}

/** About how many keys of the data set were read. */
export function keysOf(use: DatasetUse): number {
  return use.samples.size * (use.mask + 1);
}

function isWorthLess(one: DatasetUse, other: DatasetUse): boolean {
  const hasGuard = guardOf(one) > 0;
  return hasGuard === guardOf(other) > 0 ? one.lastUse < other.lastUse : !hasGuard;
}

function sample(use: DatasetUse, { b, c }: SampledDigest, tick: number): void {
  const key = b * 2 ** maskBits + (c & (2 ** maskBits - 1));
  const before = use.samples.get(key);
  use.samples.set(key, tick);
  if (before === undefined) {
    if (use.samples.size > maxSamplesPerPrefix) thin(use);
    return;
  }
  const longestKnown = Math.max(use.longest, use.longestBefore);
  // A span is long enough for the longest interval to be met again; what was not met in two spans is forgotten.
  if (tick - use.spanStart > 4 * longestKnown && longestKnown > 0) startSpan(use, tick);
  use.longest = Math.max(use.longest, tick - before);
}

/** Keys that were not used in the last span are gone, and when few are left more are sampled. */
function startSpan(use: DatasetUse, tick: number): void {
  for (const [key, lastUse] of use.samples) if (lastUse < use.spanStart) use.samples.delete(key);
  if (use.samples.size < maxSamplesPerPrefix / 4) use.mask >>>= 1;
  use.longestBefore = use.longest;
  use.longest = 0;
  use.spanStart = tick;
}

/** Halves the sampled keys, by one more bit of their digests. */
function thin(use: DatasetUse): void {
  use.mask = Math.min(use.mask * 2 + 1, 2 ** maskBits - 1);
  for (const key of use.samples.keys()) if (((key % 2 ** maskBits) & use.mask) !== 0) use.samples.delete(key);
}
