import test from 'ava';
import { DatasetEviction, LruEviction } from '../../../services/cache/index/eviction.ts';
import { VictimChoice } from '../../../services/cache/index/evictor.ts';
import { Groups, maxGroupsOfNamespace, othersPrefix, overflowGroup } from '../../../services/cache/index/groups.ts';
import { maxGroups, noRow, ObjectIndex } from '../../../services/cache/index/object-index.ts';
import { commonPool } from '../../../services/cache/index/pools.ts';
import { Shares } from '../../../services/cache/index/shares.ts';

/** The pure parts of a shard, constructed as in the catalog. */
function makeParts(capacity: number) {
  const index = new ObjectIndex({ capacity });
  const groups: Groups = new Groups({
    isEmpty: (group) => index.groupCount(group) === 0,
    onNamed: (group, { namespace }) => index.assign(group, shares.poolOf(namespace).number),
    hasShare: (namespace) => shares.poolOf(namespace).number !== commonPool,
  });
  const shares: Shares = new Shares({ index, groups, usable: () => ({ bytes: 4096 * capacity, files: capacity }) });
  const victims = new VictimChoice({ index, shares, eviction: new LruEviction(index) });
  let now = 0;
  /** Inserts an object, after the evictions of the evictor. Returns its row. */
  const put = (namespace: string, prefix: string, mark = 0) => {
    now += 1;
    for (let row = victims.choose(index.isFull, now); row !== noRow; row = victims.choose(index.isFull, now)) index.remove(row);
    const group = groups.number({ namespace, prefix });
    return index.insert({ a: Math.imul(now, 2654435761) >>> 0, b: now, c: mark, blocks: 1, tick: now, group });
  };
  const countMarked = (mark: number) => {
    let count = 0;
    for (let row = 1; row < index.rowLimit; row += 1) if (index.isUsed(row) && index.digest(row).c === mark) count += 1;
    return count;
  };
  return { index, groups, shares, put, countMarked };
}

/** Uses up all numbers that are not reserved, with namespaces without a share. */
function useUpNumbers({ put }: ReturnType<typeof makeParts>): void {
  for (let namespace = 0; namespace < maxGroups / maxGroupsOfNamespace; namespace += 1)
    for (let at = 0; at < maxGroupsOfNamespace; at += 1) put(`filler-${namespace}`, `${namespace}/${at}/`);
}

test('a namespace with a prefix for each object stays within its share and evicts no objects within the share of another', (t) => {
  const { shares, put, countMarked } = makeParts(400_000);
  const [good, evil, newGood] = [1, 2, 3];
  shares.learn('good', 0.5);
  shares.learn('evil', 0.3);
  for (let at = 0; at < 190_000; at += 1) put('good', 'set/', good);
  for (let at = 0; at < 500_000; at += 1) put('evil', `evil/run/${at}/step/`, evil);
  t.true(countMarked(evil) <= 120_001, `${countMarked(evil)}`);
  for (let at = 0; at < 100; at += 1) put('good', `good/new/${at}/`, newGood);
  for (let at = 500_000; at < 800_000; at += 1) put('evil', `evil/run/${at}/step/`, evil);
  t.is(countMarked(newGood), 100);
  t.is(countMarked(good), 190_000);
  t.true(countMarked(evil) <= 120_001);
});

test('after 256 groups a namespace uses the group (others), and an empty group is reused for the next prefix', (t) => {
  const { index, groups, put } = makeParts(1000);
  const rows = Array.from({ length: maxGroupsOfNamespace }, (_, at) => put('n', `${at}/`));
  t.is(new Set(rows.map((row) => index.group(row))).size, maxGroupsOfNamespace);
  const others = index.group(put('n', 'more/'));
  t.deepEqual(groups.name(others), { namespace: 'n', prefix: othersPrefix });
  t.is(index.group(put('n', 'still-more/')), others);
  t.is(groups.number({ namespace: 'n', prefix: othersPrefix }), others);
  t.is(groups.name(index.group(put('other', 'more/')))?.prefix, 'more/');
  index.remove(rows[7] as number);
  const next = index.group(put('n', 'next/'));
  t.deepEqual(groups.name(next), { namespace: 'n', prefix: 'next/' });
  t.is(index.group(put('n', 'after/')), others);
  t.is([...groups.ofNamespace('n')].length, maxGroupsOfNamespace + 1);
});

test('when all other numbers are used, each namespace with a share has its own group (others), in its pool', (t) => {
  const parts = makeParts(80_000);
  const { index, groups, shares, put } = parts;
  useUpNumbers(parts);
  t.is(index.group(put('none', 'a/')), overflowGroup);
  for (let at = 0; at < 1023; at += 1) {
    const { number } = shares.learn(`share-${at}`, 0.0005);
    const group = index.group(put(`share-${at}`, 'a/'));
    t.deepEqual(groups.name(group), { namespace: `share-${at}`, prefix: othersPrefix });
    t.is(index.pools.of(group), number);
    t.is(index.pools.objects(number), 1);
  }
  t.is(index.group(put('none', 'b/')), overflowGroup);
  shares.learn('share-0', undefined);
  const late = shares.learn('none', 0.5);
  const group = index.group(put('none', 'c/'));
  t.is(index.pools.of(group), late.number);
});

test('with dataset eviction the group (others) is not a data set: its objects are evicted before those of a data set in use', (t) => {
  const { index, groups, put } = makeParts(2000);
  const eviction = new DatasetEviction(index, groups);
  const set = Array.from({ length: 100 }, () => put('n', 'set/'));
  for (let at = 1; at < maxGroupsOfNamespace; at += 1) put('n', `${at}/`);
  const others = Array.from({ length: 10 }, (_, at) => put('n', `beyond-${at}/`));
  let tick = 10_000;
  const read = (row: number) => {
    eviction.read(row, tick);
    index.touch(row, tick);
  };
  for (let epoch = 0; epoch < 4; epoch += 1) {
    for (const row of set) {
      tick += 1;
      read(row);
    }
  }
  for (const row of others) read(row);
  for (let at = 1; at < maxGroupsOfNamespace; at += 1) index.remove(index.oldestOf(groups.number({ namespace: 'n', prefix: `${at}/` })));
  for (const row of others) {
    t.is(eviction.victim(tick), row);
    index.remove(row);
  }
  t.is(eviction.victim(tick), noRow, 'the data set is protected');
});

test('dataset eviction checks a limited number of groups in one call, and all groups in several calls', (t) => {
  const parts = makeParts(80_000);
  const { index, groups } = parts;
  useUpNumbers(parts);
  // The only object that may be evicted is in the last group of the pass.
  const eviction = new DatasetEviction(index, groups);
  const last = groups.size - 1;
  for (let group = 2; group < groups.size; group += 1) {
    const row = index.oldestOf(group);
    for (const tick of [100_000, 200_000, 300_000]) if (group !== last) eviction.read(row, tick);
    index.touch(row, group === last ? 1 : 300_000);
  }
  while (index.oldestOf(overflowGroup) !== noRow) index.remove(index.oldestOf(overflowGroup));
  let checks = 0;
  index.oldestOf = (group) => {
    checks += 1;
    return ObjectIndex.prototype.oldestOf.call(index, group);
  };
  let calls = 0;
  let row: number = noRow;
  while (row === noRow && calls < 1000) {
    checks = 0;
    row = eviction.victim(300_010);
    calls += 1;
    t.true(checks <= 2000, `${checks}`);
  }
  t.is(index.group(row), last);
  t.true(calls <= 200, `${calls}`);
});
