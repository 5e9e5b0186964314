/** Which shards an assignment holds over time: lost health, collapses, restarts and the return after an outage. */
import test from 'ava';
import fc from 'fast-check';
import { type Members, Membership } from '../../services/eds/membership.ts';
import type { Shard } from '../../services/shared/shard-endpoints.ts';
import { placeOf, uniqueShards } from '../../services/shared/unique-shards.ts';
import { candidate, candidates } from './support/shards.ts';

const limits = { unhealthyMs: 30_000, lossDelayMs: 15_000, collapseShare: 0.5, collapseHoldMs: 600_000, returnWaitMs: 60_000 };
const keysOf = (members: { shards: readonly Shard[] }): string[] => members.shards.map(({ hashKey }) => hashKey);

test('a shard that does not serve is UNHEALTHY for 30 s, is then removed, and returns when it serves', (t) => {
  const membership = new Membership(limits);
  const sick = candidate(1, { health: 'UNHEALTHY' });
  t.is(membership.take([candidate(0), sick], 0).nextAt, 30_000);
  t.deepEqual(keysOf(membership.take([candidate(0), sick], 29_999)), ['kura-cache-0/shard-0', 'kura-cache-1/shard-0']);
  const later = membership.take([candidate(0), sick], 30_000);
  t.deepEqual([keysOf(later), later.nextAt], [['kura-cache-0/shard-0'], undefined]);
  t.is(membership.take([candidate(0), candidate(1)], 40_000).shards.length, 2);
  t.is(membership.take([candidate(0), sick], 50_000).nextAt, 65_000, 'the time starts again');
});

test('when more than half of the shards vanish at once they are kept for 10 minutes; additions, addresses and health are not delayed', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(8), 0);
  const rest = [candidate(0, { address: '10.9.9.9' }), candidate(1, { health: 'DRAINING' }), candidate(9)];
  const during = membership.take(rest, 1_000);
  t.is(during.shards.length, 9);
  t.is(during.held.length, 6);
  t.is(during.nextAt, 601_000);
  t.like(during.shards[0], { address: '10.9.9.9' });
  t.like(during.shards[1], { health: 'DRAINING' });
  const back = membership.take([...rest, candidate(2), candidate(3)], 2_000);
  t.deepEqual([back.held, back.nextAt], [[], undefined], 'what is left of it is no collapse');

  const gone = new Membership(limits);
  gone.take(candidates(8), 0);
  gone.take([], 1_000);
  t.is(gone.take([], 600_999).shards.length, 8);
  t.is(gone.take([], 601_000).shards.length, 0);
});

test('a kept shard is removed when a new one has its address', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(4), 0);
  const { shards, held } = membership.take([candidate(9, { address: candidate(0).address })], 1);
  t.is(held.length, 3);
  t.is(shards.length, 4);
});

test('half of the shards, or all of three, may vanish at once', (t) => {
  const half = new Membership(limits);
  half.take(candidates(8), 0);
  t.is(half.take(candidates(4), 1).shards.length, 4);
  const three = new Membership(limits);
  three.take(candidates(3), 0);
  t.is(three.take([], 1).shards.length, 0);
});

/** How many shards have each health: `14 HEALTHY, 2 UNHEALTHY`. */
function countsOf({ shards }: Pick<Members, 'shards'>): string {
  const counts = [...Map.groupBy(shards, ({ health }) => health)].map(([health, some]) => `${some.length} ${health}`);
  return counts.sort().join(', ');
}

/** `count` shards, of which the first `lost` ones do not serve. */
function partlyLost(count: number, lost: number): Shard[] {
  return candidates(count).map((shard, index) => (index < lost ? { ...shard, health: 'UNHEALTHY' } : shard));
}

test('when more than half of the shards lose their health they stay as they were while Kubernetes lists them', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(16), 0);
  const during = membership.take(partlyLost(16, 16), 1_000);
  t.deepEqual([countsOf(during), during.held.length, during.nextAt], ['16 HEALTHY', 16, 31_000]);
  const later = membership.take(partlyLost(16, 16), 9_000_000);
  t.deepEqual([countsOf(later), later.held.length, later.nextAt], ['16 HEALTHY', 16, undefined]);
  t.is(countsOf(membership.take(partlyLost(16, 16).slice(3), 9_000_001)), '13 HEALTHY', 'what vanishes after the time is removed');
});

test('losses that come one after the other within the delay never list a shard as UNHEALTHY when they become a collapse', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(16), 0);
  for (let lost = 1; lost <= 16; lost++) {
    const members = membership.take(partlyLost(16, lost), lost * 900);
    t.is(countsOf(members), '16 HEALTHY', `${lost} lost`);
    t.is(members.held.length, lost > 8 ? lost : 0);
  }
});

test('half of the shards lose their health: they are UNHEALTHY after 15 s and removed after 30 s', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(16), 0);
  t.is(membership.take(partlyLost(16, 8), 0).nextAt, 15_000);
  t.is(countsOf(membership.take(partlyLost(16, 8), 14_999)), '16 HEALTHY');
  t.is(countsOf(membership.take(partlyLost(16, 8), 15_000)), '8 HEALTHY, 8 UNHEALTHY');
  t.is(countsOf(membership.take(partlyLost(16, 8), 30_000)), '8 HEALTHY');
  t.is(countsOf(membership.take(partlyLost(16, 9), 30_001)), '8 HEALTHY', 'one more of the remaining eight is no collapse');
});

test('shards that become UNHEALTHY first and then more: all are healthy again', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(16), 0);
  membership.take(partlyLost(16, 8), 0);
  t.is(countsOf(membership.take(partlyLost(16, 8), 15_000)), '8 HEALTHY, 8 UNHEALTHY');
  t.is(countsOf(membership.take(partlyLost(16, 12), 16_000)), '16 HEALTHY');
});

for (const count of [1, 2, 3]) {
  test(`of ${count} shards all that lose their health are kept, and all that vanish are not`, (t) => {
    const membership = new Membership(limits);
    membership.take(candidates(count), 0);
    t.is(countsOf(membership.take(partlyLost(count, count), 20_000)), `${count} HEALTHY`);
    t.is(countsOf(membership.take([], 20_001)), '');
  });
}

test('a shard that drains has announced its end: it is neither kept nor counted', (t) => {
  const membership = new Membership(limits);
  const draining = candidates(8).map((shard, index) => (index < 6 ? { ...shard, health: 'DRAINING' as const } : shard));
  membership.take(candidates(8), 0);
  t.is(countsOf(membership.take(draining, 1)), '2 HEALTHY, 6 DRAINING');
  t.is(countsOf(membership.take(draining.slice(6), 2)), '2 HEALTHY');
  const lost = membership.take(partlyLost(8, 8).slice(6), 3);
  t.deepEqual([countsOf(lost), lost.held.length], ['2 HEALTHY', 2], 'the rest that loses its health is kept');
});

test('a collapse that is over gives the rest time to return', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(16), 0);
  membership.take(partlyLost(16, 16), 0);
  const after = membership.take(partlyLost(16, 8), 300_000);
  t.deepEqual([countsOf(after), after.held.length, after.nextAt], ['16 HEALTHY', 0, 315_000]);
  t.is(countsOf(membership.take(partlyLost(16, 8), 315_000)), '8 HEALTHY, 8 UNHEALTHY');
  t.is(countsOf(membership.take(partlyLost(16, 8), 330_000)), '8 HEALTHY');
});

test('a shard that returns at another address without serving is UNHEALTHY, and is not one of those that are kept', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(8), 0);
  const moved = partlyLost(8, 8).map((shard, index) => (index === 0 ? { ...shard, address: '10.9.9.9' } : shard));
  const during = membership.take(moved, 1);
  t.deepEqual([countsOf(during), during.held.length], ['1 UNHEALTHY, 7 HEALTHY', 7]);
});

test('after a restart, the list of the process before is the base', (t) => {
  const membership = new Membership(limits, { base: candidates(16) });
  const during = membership.take([], 0);
  t.deepEqual([during.isWaiting, countsOf(during), during.held.length], [false, '16 HEALTHY', 16]);
  t.is(countsOf(membership.take([], 600_000)), '');
  const empty = new Membership(limits, { base: [] }).take([], 0);
  t.deepEqual([empty.isWaiting, empty.shards], [false, []], 'an empty list after an empty one is no collapse');
});

test('without a base, an empty first list waits for 10 minutes, and a useful list ends the wait', (t) => {
  const membership = new Membership(limits);
  t.like(membership.take([], 0), { isWaiting: true, nextAt: 600_000 });
  t.like(membership.take(partlyLost(16, 16), 1_000), { isWaiting: true, nextAt: undefined });
  t.like(membership.take(partlyLost(16, 9), 2_000), { isWaiting: true, nextAt: 62_000 });
  t.is(countsOf(membership.take(partlyLost(16, 8), 3_000)), '8 HEALTHY, 8 UNHEALTHY');
  const never = new Membership(limits);
  never.take([], 0);
  t.like(never.take([], 600_000), { isWaiting: false, shards: [] });
  const off = new Membership({ ...limits, collapseShare: 1 });
  t.like(off.take([], 0), { isWaiting: false, shards: [] });
});

test('after an outage the first shards wait until half of the listed shards serve, or for a minute', (t) => {
  const away = (serving: number, address = '10.7.0'): Shard[] =>
    partlyLost(16, 16).map((shard, index) => ({
      ...shard,
      address: `${address}.${index}`,
      health: index < serving ? ('HEALTHY' as const) : ('UNHEALTHY' as const),
    }));
  const after = (): Membership => {
    const membership = new Membership(limits);
    membership.take(candidates(16), 0);
    membership.take(away(0), 1_000);
    t.is(countsOf(membership.take(away(0), 40_000)), '', 'all restarted at other addresses and do not serve');
    return membership;
  };
  const half = after();
  const first = half.take(away(1), 50_000);
  t.deepEqual([countsOf(first), first.nextAt], ['1 UNHEALTHY', 110_000]);
  t.is(countsOf(half.take(away(7), 60_000)), '7 UNHEALTHY');
  t.is(countsOf(half.take(away(8), 61_000)), '8 HEALTHY');
  t.is(countsOf(half.take(away(7), 62_000)), '8 HEALTHY', 'the outage is over: one loss is a loss');
  const late = after();
  late.take(away(1), 50_000);
  t.is(countsOf(late.take(away(1), 110_000)), '1 HEALTHY');
});

test('a shard that is kept through an outage stays healthy when it is the first to serve', (t) => {
  const membership = new Membership(limits);
  membership.take(candidates(16), 0);
  membership.take(partlyLost(16, 16), 1_000);
  t.is(countsOf(membership.take(partlyLost(16, 15), 2_000)), '16 HEALTHY');
});

test('any history keeps hash_keys and addresses unique, and once it rests the assignment is the list and what a collapse keeps of it', (t) => {
  const shard = fc.record({
    index: fc.nat(6),
    address: fc.nat(8),
    health: fc.constantFrom('HEALTHY' as const, 'DRAINING' as const, 'UNHEALTHY' as const),
  });
  const list = fc
    .array(shard, { maxLength: 8 })
    .map(
      (some) => uniqueShards(some.map(({ index, address, health }) => candidate(index, { address: `10.0.0.${address}`, health }))).shards,
    );
  const step = fc.record({ list, afterMs: fc.constantFrom(1, 5_000, 20_000, 70_000) });
  const property = fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
    const membership = new Membership(limits);
    let now = 0;
    for (const { list: listed, afterMs } of steps) {
      now += afterMs;
      const { shards, nextAt } = membership.take(listed, now);
      if (new Set(shards.map(({ hashKey }) => hashKey)).size !== shards.length) throw new Error('a hash_key twice');
      if (new Set(shards.map(placeOf)).size !== shards.length) throw new Error('an address twice');
      if (nextAt !== undefined && nextAt <= now) throw new Error('the next time has passed');
    }
    const last = steps.at(-1)?.list ?? [];
    let members = membership.take(last, now);
    for (let turns = 0; members.nextAt !== undefined; turns++) {
      if (turns > 100) throw new Error('it never rests');
      members = membership.take(last, members.nextAt);
    }
    const held = new Set(members.held);
    const rest = members.isWaiting
      ? []
      : last.flatMap((one) => (held.has(one.hashKey) ? { ...one, health: 'HEALTHY' } : one.health === 'UNHEALTHY' ? [] : one));
    if (JSON.stringify(members.shards) !== JSON.stringify(rest)) throw new Error(`rests with ${countsOf(members)}`);
  });
  t.notThrows(() => fc.assert(property, { numRuns: 2_000 }));
});
