import test from 'ava';
import fc from 'fast-check';
import { noRow, ObjectIndex } from '../../../services/cache/index/object-index.ts';

interface Entry {
  digest: number;
  blocks: number;
  tick: number;
  group: number;
  /** Order inside the group: larger is newer. */
  order: number;
}

/** The digests share few buckets, so that chains and splits occur. */
const digestWords = (digest: number) => ({ a: (digest % 7) * 0x10001 + ((digest * 2654435761) >>> 20), b: digest, c: digest ^ 0xffff });

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('insert' as const),
      digest: fc.nat(300),
      blocks: fc.integer({ min: 1, max: 9 }),
      group: fc.nat(5),
      atEnd: fc.boolean(),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('touch' as const), digest: fc.nat(300) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('remove' as const), digest: fc.nat(300) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('regroup' as const), digest: fc.nat(300), group: fc.nat(5) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('resize' as const), digest: fc.nat(300), blocks: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 4, arbitrary: fc.constant({ kind: 'evict' as const }) },
);

test('the index agrees with a naive model for every order of calls', (t) => {
  const property = fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
    const index = new ObjectIndex({ capacity: 200 });
    const model = new Map<number, Entry>();
    let now = 1;
    const rowOf = (digest: number) => index.find(digestWords(digest).a, digestWords(digest).b, digestWords(digest).c);
    const oldestOf = (group: number) =>
      [...model.values()].filter((entry) => entry.group === group).sort((one, other) => one.order - other.order)[0];
    for (const action of steps) {
      now += 1;
      if (action.kind === 'evict') {
        const row = index.oldest();
        const candidates = [0, 1, 2, 3, 4, 5].map(oldestOf).filter((entry) => entry !== undefined);
        const least = Math.min(...candidates.map((entry) => entry.tick));
        if (row === noRow) {
          if (model.size > 0) return false;
          continue;
        }
        const victim = [...model.values()].find((entry) => rowOf(entry.digest) === row);
        if (victim === undefined || victim.tick !== least || !candidates.includes(victim)) return false;
        index.remove(row);
        model.delete(victim.digest);
        continue;
      }
      const entry = model.get(action.digest);
      const row = rowOf(action.digest);
      if ((entry === undefined) !== (row === noRow)) return false;
      if (action.kind === 'insert') {
        if (entry !== undefined || index.isFull) continue;
        // Only a row that is older than the whole group may join as its oldest.
        const oldest = oldestOf(action.group);
        const atOldEnd = action.atEnd && oldest !== undefined && oldest.tick > 1;
        const tick = atOldEnd ? (oldest?.tick ?? 2) - 1 : now;
        index.insert({ ...digestWords(action.digest), blocks: action.blocks, tick, group: action.group }, atOldEnd ? 'oldest' : 'newest');
        model.set(action.digest, { ...action, tick, order: atOldEnd ? (oldest?.order ?? 0) - 1e-6 * now : now });
      } else if (entry !== undefined) {
        if (action.kind === 'touch') {
          index.touch(row, now);
          entry.tick = now;
          entry.order = now;
        } else if (action.kind === 'remove') {
          index.remove(row);
          model.delete(action.digest);
        } else if (action.kind === 'resize') {
          index.resize(row, action.blocks);
          entry.blocks = action.blocks;
        } else {
          index.touch(row, now);
          index.regroup(row, action.group);
          Object.assign(entry, { group: action.group, tick: now, order: now });
        }
      }
      const blocks = [...model.values()].reduce((sum, each) => sum + each.blocks, 0);
      if (index.count !== model.size || index.totalBlocks !== blocks) return false;
      for (let group = 0; group < 6; group += 1) {
        const members = [...model.values()].filter((each) => each.group === group);
        if (index.groupCount(group) !== members.length || index.groupBlocks(group) !== members.reduce((sum, each) => sum + each.blocks, 0))
          return false;
      }
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 200 }));
});

test('a walk returns every row, although rows are touched and removed during the walk', (t) => {
  const index = new ObjectIndex({ capacity: 100 });
  const rows = Array.from({ length: 50 }, (_, at) => index.insert({ a: at, b: at, c: at, blocks: 1, tick: at + 1, group: 0 }));
  const met = new Set<number>();
  const other = index.walk(0);
  let at = 0;
  for (const row of index.walk(0)) {
    met.add(row);
    if (at === 2) other.next();
    // The next row is removed, and a later row is touched.
    if (at === 3) index.remove(rows[4] as number);
    if (at === 5) index.touch(rows[30] as number, 1000);
    at += 1;
  }
  t.deepEqual(
    [...met].sort((one, other) => one - other),
    rows.filter((row) => row !== rows[4]),
  );
  // A walk that is ahead or behind is not changed by another walk.
  t.is([...other].length, 48);
});

test('a walk ends although every row that it returns is touched', (t) => {
  const index = new ObjectIndex({ capacity: 100 });
  for (let at = 0; at < 50; at += 1) index.insert({ a: at, b: at, c: at, blocks: 1, tick: at + 1, group: 0 });
  let steps = 0;
  for (const row of index.walk(0)) {
    steps += 1;
    index.touch(row, 1000 + steps);
  }
  t.is(steps, 100);
});

test('a million objects take at most 48 bytes each and no insert stops the loop for 10 ms', (t) => {
  const objects = 1_000_000;
  const index = new ObjectIndex({ capacity: objects });
  let worst = 0;
  let before = performance.now();
  for (let at = 0; at < objects; at += 1) {
    index.insert({ a: Math.imul(at, 2654435761) >>> 0, b: at, c: at, blocks: 1, tick: 1, group: at & 1023 });
    if (at % 1000 !== 0) continue;
    const now = performance.now();
    worst = Math.max(worst, now - before);
    before = now;
  }
  t.is(index.count, objects);
  t.true(index.bytesPerObject <= 48, `${index.bytesPerObject}`);
  // Measures a thousand inserts at a time. The limit of 200 ms allows for a busy machine.
  t.true(worst < 200, `${worst} ms for a thousand inserts`);
});
