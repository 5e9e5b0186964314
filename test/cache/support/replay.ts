/** Replays a trace of reads with the real index and eviction policy. All objects have the same size, and a PUT follows each miss. */
import { hash } from 'node:crypto';
import { DatasetEviction, type EvictionPolicy, LruEviction } from '../../../services/cache/index/eviction.ts';
import { Groups } from '../../../services/cache/index/groups.ts';
import { heapStorage, IndexedHeap } from '../../../services/cache/index/indexed-heap.ts';
import { noRow, ObjectIndex } from '../../../services/cache/index/object-index.ts';

export interface Access {
  readonly prefix: string;
  readonly number: number;
  /** Whether the read counts in the hit rate. Reads of the warm-up do not. */
  readonly isMeasured: boolean;
  /** The step of recency. By default ten reads are one step. */
  readonly tick?: number;
}

/** Reads in one step of recency. */
const readsPerTick = 10;

/** The hit rate in percent. */
export function replay(policyName: 'lru' | 'dataset', capacity: number, trace: Iterable<Access>): number {
  const index = new ObjectIndex({ capacity });
  const groups = new Groups({ isEmpty: (group) => index.groupCount(group) === 0 });
  const policy: EvictionPolicy = policyName === 'lru' ? new LruEviction(index) : new DatasetEviction(index, groups);
  const digests = new Map<string, { a: number; b: number; c: number }>();
  let reads = 0;
  let measured = 0;
  let hits = 0;
  for (const { prefix, number, isMeasured, tick = 1 + Math.floor(reads / readsPerTick) } of trace) {
    reads += 1;
    const name = `${prefix}${number}`;
    let digest = digests.get(name);
    if (digest === undefined) {
      const sum = hash('sha256', name, 'buffer');
      digest = { a: sum.readUInt32BE(0), b: sum.readUInt32BE(4), c: sum.readUInt32BE(8) };
      digests.set(name, digest);
    }
    if (isMeasured) measured += 1;
    const row = index.find(digest.a, digest.b, digest.c);
    if (row !== noRow) {
      policy.read(row, tick);
      index.touch(row, tick);
      if (isMeasured) hits += 1;
      continue;
    }
    policy.missed(prefix, digest, tick);
    if (index.isFull) {
      const victim = policy.victim(tick);
      if (victim === noRow) continue;
      index.remove(victim);
    }
    index.insert({ ...digest, blocks: 1, tick, group: groups.number({ namespace: 'n', prefix }) });
  }
  return (100 * hits) / measured;
}

/** The best possible hit rate in percent, for a policy that knows all later reads and may drop an object right after its read (Belady). */
export function replayIdeal(capacity: number, trace: Iterable<Access>): number {
  const numbers = new Map<string, number>();
  const reads = [...trace].map(({ prefix, number, isMeasured }) => {
    const name = `${prefix}${number}`;
    const object = numbers.get(name) ?? numbers.size;
    numbers.set(name, object);
    return { object, isMeasured };
  });
  const nextReads = new Float64Array(reads.length);
  const seen = new Map<number, number>();
  for (let at = reads.length - 1; at >= 0; at -= 1) {
    const { object } = reads[at] as (typeof reads)[number];
    nextReads[at] = seen.get(object) ?? Number.POSITIVE_INFINITY;
    seen.set(object, at);
  }
  // The stored object with the latest next read is at the top.
  const stored = new IndexedHeap(heapStorage(numbers.size));
  const isStored = new Set<number>();
  let measured = 0;
  let hits = 0;
  for (const [at, { object, isMeasured }] of reads.entries()) {
    const next = nextReads[at] as number;
    if (isMeasured) measured += 1;
    if (isStored.has(object)) {
      if (isMeasured) hits += 1;
    } else if (isStored.size >= capacity) {
      const victim = stored.top() as number;
      if (-stored.keyOf(victim) <= next) continue;
      stored.remove(victim);
      isStored.delete(victim);
    }
    stored.set(object, -next);
    isStored.add(object);
  }
  return (100 * hits) / measured;
}

/** A small random generator with a seed, so that a failing trace can be repeated. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(count: number, random: () => number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, at) => at);
  for (let at = count - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    const held = order[at] as number;
    order[at] = order[other] as number;
    order[other] = held;
  }
  return order;
}

/** A: every epoch reads all objects in a new order. */
export function* reshuffledEpochs(objects: number, epochs: number, warmUp: number, random: () => number): Generator<Access> {
  for (let epoch = 0; epoch < epochs; epoch += 1) {
    for (const number of shuffled(objects, random)) yield { prefix: 'set/', number, isMeasured: epoch >= warmUp };
  }
}

const shards = 16;
const ticksPerEpoch = 1200;

/** F: the reads on one of 16 shards of reshuffled epochs of two minutes each. This shard has `objects` objects of the set. */
export function* fewObjects(
  objects: number,
  epochs: number,
  warmUp: number,
  random: () => number,
): Generator<Access & { readonly tick: number }> {
  const all = objects * shards;
  // Each seed has different digests, because with few objects the result depends on the sampled ones.
  const prefix = `set-${Math.floor(random() * 1e6)}/`;
  for (let epoch = 0; epoch < epochs; epoch += 1) {
    for (const [at, number] of shuffled(all, random).entries()) {
      const tick = 1 + Math.floor(ticksPerEpoch * (epoch + at / all));
      if (number < objects) yield { prefix, number, isMeasured: epoch >= warmUp, tick };
    }
  }
}

/** G: concurrent jobs with a data set each, all with few objects on this shard. */
export function* manySmallSets(sets: number, objects: number, epochs: number, warmUp: number, random: () => number): Generator<Access> {
  const reads = Array.from({ length: sets }, () => [...fewObjects(objects, epochs, warmUp, random)]).flat();
  yield* reads.sort((one, other) => one.tick - other.tick);
}

/** H: two jobs read one set at the same rate, each in a different order. */
export function* sharedSet(objects: number, epochs: number, warmUp: number, random: () => number): Generator<Access> {
  for (let epoch = 0; epoch < epochs; epoch += 1) {
    const orders = [shuffled(objects, random), shuffled(objects, random)];
    for (let at = 0; at < objects; at += 1)
      for (const order of orders) yield { prefix: 'set/', number: order[at] as number, isMeasured: epoch >= warmUp };
  }
}

/** I: a CDN. Reads follow a Zipf law with exponent 1, and a part of all reads is for objects that are read once. */
export function* cdn(objects: number, reads: number, random: () => number): Generator<Access> {
  const oncePart = 0.3;
  const draw = zipf(objects, 1, random);
  for (let at = 0; at < reads; at += 1) {
    const number = random() < oncePart ? objects + at : draw();
    yield { prefix: 'cdn/', number, isMeasured: at > reads / 3 };
  }
}

/** B: every epoch reads all objects in the same order. */
export function* sameOrderEpochs(objects: number, epochs: number, warmUp: number): Generator<Access> {
  for (let epoch = 0; epoch < epochs; epoch += 1) {
    for (let number = 0; number < objects; number += 1) yield { prefix: 'set/', number, isMeasured: epoch >= warmUp };
  }
}

/** D: jobs with a data set each and five reshuffled epochs. Two jobs run at any time, the second `offset` of a duration after the first. */
export function* jobs(count: number, objects: number, offset: number, random: () => number): Generator<Access> {
  const epochs = 5;
  const job = function* (number: number): Generator<Access> {
    for (const access of reshuffledEpochs(objects, epochs, 0, random)) yield { ...access, prefix: `job-${number}/` };
  };
  const lanes = [0, 1].map((lane) => {
    return (function* (): Generator<Access> {
      for (let number = lane; number < count; number += 2) yield* job(number);
    })();
  });
  const [first, second] = lanes as [Generator<Access>, Generator<Access>];
  for (let at = 0; at < objects * epochs * offset; at += 1) yield first.next().value as Access;
  for (;;) {
    const one = first.next();
    const other = second.next();
    if (!one.done) yield one.value;
    if (!other.done) yield other.value;
    if (one.done && other.done) return;
  }
}

/** E: reads that follow a Zipf law, mixed with a repeated scan of the same objects. */
export function* scanAndZipf(objects: number, reads: number, random: () => number): Generator<Access> {
  const scanPart = 0.68;
  const draw = zipf(objects, 1.1, random);
  let scanned = 0;
  for (let at = 0; at < reads; at += 1) {
    const isMeasured = at > reads / 3;
    if (random() < scanPart) {
      yield { prefix: 'set/', number: scanned % objects, isMeasured };
      scanned += 1;
      continue;
    }
    // The order of popularity differs from the order of the scan.
    yield { prefix: 'set/', number: (draw() * 7919) % objects, isMeasured };
  }
}

/** Numbers from 0 on. Smaller numbers are more frequent. */
function zipf(objects: number, exponent: number, random: () => number): () => number {
  let total = 0;
  const cumulated = Float64Array.from({ length: objects }, (_, at) => {
    total += 1 / (at + 1) ** exponent;
    return total;
  });
  return () => {
    const drawn = random() * total;
    let low = 0;
    for (let high = objects - 1; low < high; ) {
      const middle = (low + high) >> 1;
      if ((cumulated[middle] as number) < drawn) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}
