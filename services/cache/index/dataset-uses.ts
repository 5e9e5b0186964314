/**
 * Pure: measures how data sets are read, on a sample of their keys. A data set is all groups with one prefix. Time is in steps (clock.ts).
 */

interface SampledDigest {
  readonly b: number;
  readonly c: number;
}

export interface DatasetUse {
  lastUse: number;
  /** Longest time between two uses of one sampled key, in the current span and in the previous one. */
  longest: number;
  longestBefore: number;
  spanStart: number;
  /** A key is sampled if these bits of its digest are 0. At first all keys are sampled. */
  mask: number;
  /** Last use by sampled key. */
  readonly samples: Map<number, number>;
}

/** Sampled keys of one data set: enough for the longest of a few hundred intervals. A smaller data set is sampled whole. */
const maxSamplesPerPrefix = 64;
const maxSamples = 65_536;
const maxPrefixes = 65_536;
/** Data sets that are compared when one of them has to be dropped. */
const maxCompared = 8;
/** The longest interval of a sample is slightly shorter than the longest interval of all keys. */
const guardFactor = 1.15;
/** Bits of a digest that a mask can test. */
const maskBits = 20;

export class DatasetUses {
  readonly #byPrefix = new Map<string, DatasetUse>();
  /** An iterator at the front of `#byPrefix`. A new iterator would step over all entries that were deleted there. */
  #front = this.#byPrefix.entries();
  #samples = 0;

  /** Records a read of a stored or a missing object. With hits alone, the guard time would become too short. */
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

  /** Compares some data sets and drops one: preferably a data set without a guard time, otherwise the least recently read. */
  #forgetOne(): void {
    let worst: readonly [string, DatasetUse] | undefined;
    for (let left = Math.min(maxCompared, this.#byPrefix.size); left > 0; left -= 1) {
      const entry = this.#first();
      if (entry === undefined) return;
      const [prefix, use] = entry;
      // Moves it to the end, so that the next call compares other data sets.
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

/** The guard time: an object of the data set is kept for this time after its last read. */
export function guardOf(use: DatasetUse): number {
  return Math.ceil(Math.max(use.longest, use.longestBefore) * guardFactor);
}

/** An estimate of how many keys of the data set were read. */
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
  // A span is long enough to contain the longest interval again. An interval that is not seen in two spans is dropped.
  if (tick - use.spanStart > 4 * longestKnown && longestKnown > 0) startSpan(use, tick);
  use.longest = Math.max(use.longest, tick - before);
}

/** Starts a span. Drops keys that were not used in the previous span, and samples more keys if few are left. */
function startSpan(use: DatasetUse, tick: number): void {
  for (const [key, lastUse] of use.samples) if (lastUse < use.spanStart) use.samples.delete(key);
  if (use.samples.size < maxSamplesPerPrefix / 4) use.mask >>>= 1;
  use.longestBefore = use.longest;
  use.longest = 0;
  use.spanStart = tick;
}

/** Halves the sample: one more bit of a digest must be 0. */
function thin(use: DatasetUse): void {
  use.mask = Math.min(use.mask * 2 + 1, 2 ** maskBits - 1);
  for (const key of use.samples.keys()) if (((key % 2 ** maskBits) & use.mask) !== 0) use.samples.delete(key);
}
