/** From slices and Pods to the assignment. */
import type { V1Endpoint, V1EndpointSlice, V1ObjectMeta } from '@kubernetes/client-node';
import test from 'ava';
import fc from 'fast-check';
import { assignmentOf } from '../../services/eds/assignment.ts';
import { Membership } from '../../services/eds/membership.ts';
import { readSlices, type Shard } from '../../services/shared/shard-endpoints.ts';
import { uniqueShards } from '../../services/shared/unique-shards.ts';
import { protos } from './support/server.ts';
import { candidate } from './support/shards.ts';

const noPods = (): undefined => undefined;

function slice(endpoints: V1Endpoint[], more: Partial<V1EndpointSlice> = {}): V1EndpointSlice {
  return {
    metadata: { name: 'slice' },
    addressType: 'IPv4',
    endpoints,
    ports: [
      { name: 'shard-0', port: 7000 },
      { name: 'shard-1', port: 7001 },
      { name: 'metrics', port: 7100 },
    ],
    ...more,
  };
}

function endpoint(index: number, conditions: V1Endpoint['conditions'] = { ready: true, serving: true, terminating: false }): V1Endpoint {
  return {
    addresses: [`10.0.0.${index}`],
    conditions,
    nodeName: `node-${index}`,
    zone: 'a',
    targetRef: { kind: 'Pod', name: `kura-cache-${index}`, uid: `uid-${index}` },
  };
}

const healths: [string, V1Endpoint['conditions'], Shard['health']][] = [
  ['ready', { ready: true, serving: true, terminating: false }, 'HEALTHY'],
  ['without conditions', undefined, 'HEALTHY'],
  ['terminating and serving', { ready: false, serving: true, terminating: true }, 'DRAINING'],
  ['terminating and no longer serving', { ready: false, serving: false, terminating: true }, 'UNHEALTHY'],
  ['not serving', { ready: false, serving: false, terminating: false }, 'UNHEALTHY'],
  ['published though not ready', { ready: true, serving: false, terminating: false }, 'UNHEALTHY'],
];
for (const [title, conditions, health] of healths) {
  test(`an endpoint that is ${title} is ${health}`, (t) => {
    const { candidates } = readSlices([slice([endpoint(1, conditions)])], { identity: 'pod', podOf: noPods });
    t.deepEqual(
      candidates.map((shard) => [shard.hashKey, shard.port, shard.health]),
      [
        ['kura-cache-1/shard-0', 7000, health],
        ['kura-cache-1/shard-1', 7001, health],
      ],
    );
  });
}

test('the shards of a DaemonSet have the names of their nodes', (t) => {
  const { candidates } = readSlices([slice([endpoint(1)])], { identity: 'node', podOf: noPods });
  t.is(candidates[0]?.hashKey, 'node-1/shard-0');
});

test('an invalid value is reported and has no further effect', (t) => {
  const { nodeName: _nodeName, ...homeless } = endpoint(2);
  const { candidates, problems } = readSlices(
    [slice([{ ...endpoint(1), addresses: [] }, homeless, endpoint(3)]), slice([endpoint(4)], { addressType: 'FQDN' })],
    { identity: 'node', podOf: noPods },
  );
  t.deepEqual(
    candidates.map(({ hashKey }) => hashKey),
    ['node-3/shard-0', 'node-3/shard-1'],
  );
  t.deepEqual(problems, [
    'an endpoint of slice slice has no address',
    'an endpoint of slice slice has no node name',
    'slice slice holds names instead of addresses',
  ]);
});

const weights: [string | undefined, number, number][] = [
  [undefined, 1, 0],
  ['7', 7, 0],
  ['1000000', 1_000_000, 0],
  ['0', 1, 1],
  ['1000001', 1, 1],
  ['-3', 1, 1],
  ['many', 1, 1],
];
for (const [text, weight, problems] of weights) {
  test(`a Pod annotated with weight ${text} has weight ${weight}`, (t) => {
    const metadata: V1ObjectMeta = text === undefined ? {} : { annotations: { 'kura/weight': text } };
    const reading = readSlices([slice([endpoint(1)])], { identity: 'pod', podOf: () => metadata });
    t.is(reading.candidates[0]?.weight, weight);
    t.is(reading.problems.length, problems);
  });
}

test('of two endpoints with one hash_key the ready one wins, and of two ready ones the older', (t) => {
  const old = candidate(1, { createdAt: 1, address: '10.1.0.1', podUid: 'old' });
  const young = candidate(1, { createdAt: 2, address: '10.1.0.2', podUid: 'young' });
  const winner = (...pair: (typeof old)[]): string | undefined => uniqueShards(pair).shards[0]?.address;
  t.is(winner(young, old), old.address);
  t.is(winner(young, { ...old, health: 'UNHEALTHY' }), young.address);
  t.is(winner(young, { ...old, health: 'DRAINING' }), young.address);
  t.is(winner({ ...young, createdAt: Number.POSITIVE_INFINITY }, old), old.address);
  t.deepEqual(uniqueShards([young, old]).refused, [
    'kura-cache-1/shard-0 at 10.1.0.2:7000: kura-cache-1/shard-0 at 10.1.0.1:7000 has the same hash_key',
  ]);
});

test('of two endpoints with one address the ready one wins', (t) => {
  const leaving = candidate(1, { address: '10.1.0.1', health: 'UNHEALTHY' });
  const coming = candidate(2, { address: '10.1.0.1' });
  const { shards, refused } = uniqueShards([leaving, coming]);
  t.deepEqual(
    shards.map(({ hashKey }) => hashKey),
    ['kura-cache-2/shard-0'],
  );
  t.is(refused.length, 1);
});

test('one Pod in two slices, or in both address families, is one shard and no refusal', (t) => {
  const pod = candidate(1);
  const { shards, refused } = uniqueShards([pod, { ...pod, address: 'fd00::1' }, { ...pod, health: 'UNHEALTHY' }]);
  t.deepEqual(
    shards.map(({ address, health }) => [address, health]),
    [[pod.address, 'HEALTHY']],
  );
  t.deepEqual(refused, []);
});

test('placement by zone puts the own zone first and leaves no gap in the priorities', (t) => {
  const shards = [candidate(1), candidate(2, { zone: 'b' }), candidate(3, { zone: 'c' })];
  const priorities = (ownZone: string | undefined, some = shards): [string, number][] =>
    (assignmentOf('x', some, { ownZone }).endpoints ?? []).map((locality) => [locality?.locality?.zone ?? '', Number(locality?.priority)]);
  t.deepEqual(priorities(undefined), [
    ['a', 0],
    ['b', 0],
    ['c', 0],
  ]);
  t.deepEqual(priorities('b'), [
    ['a', 1],
    ['b', 0],
    ['c', 1],
  ]);
  t.deepEqual(priorities('elsewhere'), [
    ['a', 0],
    ['b', 0],
    ['c', 0],
  ]);
  t.deepEqual(priorities('a', []), []);
});

const limits = { unhealthyMs: 1_000_000, lossDelayMs: 15_000, collapseShare: 1, collapseHoldMs: 30_000, returnWaitMs: 60_000 };

test('any order of the same events gives the same bytes with unique keys and addresses', (t) => {
  const pods = fc.record({
    index: fc.nat(5),
    address: fc.nat(7),
    uid: fc.nat(2),
    health: fc.constantFrom('HEALTHY' as const, 'DRAINING' as const, 'UNHEALTHY' as const),
    zone: fc.constantFrom('', 'a', 'b'),
    createdAt: fc.constantFrom(1, 2, Number.POSITIVE_INFINITY),
    weight: fc.constantFrom(1, 2),
  });
  const histories = fc.array(fc.array(pods, { maxLength: 8 }), { minLength: 1, maxLength: 4 }).chain((slices) =>
    fc.tuple(
      fc.constant(slices),
      fc.shuffledSubarray(
        slices.map((_, index) => index),
        { minLength: slices.length },
      ),
      fc.array(fc.array(pods, { maxLength: 8 }), { maxLength: 5 }),
    ),
  );
  const property = fc.property(histories, ([slices, order, past]) => {
    const bytes = (list: typeof slices, earlier: typeof past): string => {
      const membership = new Membership(limits);
      const read = (some: typeof slices): readonly Shard[] =>
        uniqueShards(
          some
            .flat()
            .map(({ index, address, uid, ...rest }) => candidate(index, { ...rest, address: `10.0.0.${address}`, podUid: `uid-${uid}` })),
        ).shards;
      earlier.forEach((state, time) => {
        membership.take(read([state]), time);
      });
      membership.take(read(list), 100);
      membership.take(read(list), 100_000);
      const { shards } = membership.take(read(list), 200_000);
      if (new Set(shards.map(({ hashKey }) => hashKey)).size !== shards.length) throw new Error('a hash_key twice');
      if (new Set(shards.map(({ address, port }) => `${address}:${port}`)).size !== shards.length) throw new Error('an address twice');
      return protos.config.endpoint.v3.ClusterLoadAssignment.serialize(assignmentOf('x', shards, { ownZone: 'a' })).toString('hex');
    };
    const shuffled = order.map((index) => [...(slices[index] ?? [])].reverse());
    if (bytes(slices, past) !== bytes(shuffled, [])) throw new Error('the order counted');
  });
  t.notThrows(() => fc.assert(property, { numRuns: 1_000 }));
});
