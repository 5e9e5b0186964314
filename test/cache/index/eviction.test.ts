import { randomBytes } from 'node:crypto';
import test from 'ava';
import { call } from '../../support/http.ts';
import {
  type Access,
  cdn,
  fewObjects,
  jobs,
  manySmallSets,
  randomFrom,
  replay,
  replayIdeal,
  reshuffledEpochs,
  sameOrderEpochs,
  scanAndZipf,
  sharedSet,
} from '../support/replay.ts';
import { metric, startTestShard } from '../support/shard.ts';

const objects = 12_000;
const reshuffled = (random = randomFrom(1)) => reshuffledEpochs(objects, 12, 4, random);
const lruClosedForm = (c: number) => 100 * (c + (1 - c) * Math.log(1 - c));

/** Trace, capacity in objects, and expected hit rates. */
const rows: { name: string; trace: () => Iterable<Access>; capacity: number; lru: number; dataset: number }[] = [
  { name: 'A .5', trace: reshuffled, capacity: objects * 0.5, lru: lruClosedForm(0.5), dataset: 50 },
  { name: 'A .95', trace: reshuffled, capacity: objects * 0.95, lru: lruClosedForm(0.95), dataset: 95 },
  { name: 'B', trace: () => sameOrderEpochs(objects, 10, 4), capacity: objects * 0.9, lru: 0, dataset: 90 },
  { name: 'D .5', trace: () => jobs(24, 6_000, 0, randomFrom(2)), capacity: 6_000, lru: 12.3, dataset: 41 },
  { name: 'D 1.0', trace: () => jobs(24, 6_000, 0.5, randomFrom(2)), capacity: 12_000, lru: 70.2, dataset: 80 },
  { name: 'E', trace: () => scanAndZipf(objects, 250_000, randomFrom(4)), capacity: objects / 2, lru: 31.5, dataset: 62.8 },
];

for (const { name, trace, capacity, lru, dataset } of rows) {
  test(`replayed through the real index, trace ${name} reaches the table's hit rates within 2 points`, (t) => {
    const measured = { lru: replay('lru', capacity, trace()), dataset: replay('dataset', capacity, trace()) };
    t.log(`lru ${measured.lru.toFixed(1)} (table ${lru.toFixed(1)}), dataset ${measured.dataset.toFixed(1)} (table ${dataset})`);
    t.true(Math.abs(measured.lru - lru) <= 2, `lru ${measured.lru}`);
    t.true(measured.dataset >= dataset - 2, `dataset ${measured.dataset}`);
  });
}

interface MeasuredRow {
  readonly name: string;
  readonly trace: (random: () => number) => Iterable<Access>;
  readonly capacity: number;
  /** The hit rates are means over this number of traces. */
  readonly seeds: number;
  readonly lru: number;
  readonly dataset: number;
  readonly ideal: number;
}

const few = (count: number, lru: number): MeasuredRow => ({
  name: `F ${count}, few objects of a set`,
  trace: (random) => fewObjects(count, 16, 8, random),
  capacity: count / 2,
  seeds: 20,
  lru,
  dataset: 50,
  ideal: 50,
});

/** Hit rates as measured with these seeds. */
const measuredRows: readonly MeasuredRow[] = [
  few(12, 17),
  few(24, 15.5),
  few(60, 16.4),
  few(200, 15.5),
  {
    name: 'G, eight sets of 24 objects',
    trace: (random) => manySmallSets(8, 24, 16, 8, random),
    capacity: 8 * 12,
    seeds: 6,
    lru: 15.9,
    dataset: 50,
    ideal: 50,
  },
  {
    name: 'H, two jobs share a set',
    trace: (random) => sharedSet(12_000, 12, 4, random),
    capacity: 6_000,
    seeds: 1,
    lru: 32.5,
    dataset: 50,
    ideal: 72.8,
  },
  { name: 'I .1, CDN', trace: (random) => cdn(20_000, 300_000, random), capacity: 2_000, seeds: 1, lru: 43.5, dataset: 48.9, ideal: 58.2 },
  { name: 'I .02, CDN', trace: (random) => cdn(20_000, 300_000, random), capacity: 400, seeds: 1, lru: 31.7, dataset: 39.4, ideal: 47.6 },
];

for (const { name, trace, capacity, seeds, ...expected } of measuredRows) {
  test(`replayed through the real index, trace ${name}: dataset eviction keeps its hit rate and is no worse than LRU`, (t) => {
    const mean = (rate: (accesses: Iterable<Access>) => number) => {
      let sum = 0;
      for (let seed = 1; seed <= seeds; seed += 1) sum += rate(trace(randomFrom(seed)));
      return sum / seeds;
    };
    const measured = {
      lru: mean((accesses) => replay('lru', capacity, accesses)),
      dataset: mean((accesses) => replay('dataset', capacity, accesses)),
      ideal: mean((accesses) => replayIdeal(capacity, accesses)),
    };
    t.log(`lru ${measured.lru.toFixed(1)}, dataset ${measured.dataset.toFixed(1)}, ideal ${measured.ideal.toFixed(1)}`);
    for (const policy of ['lru', 'dataset', 'ideal'] as const)
      t.true(Math.abs(measured[policy] - expected[policy]) <= 2, `${policy} ${measured[policy]}`);
    t.true(measured.dataset >= measured.lru);
    t.true(measured.dataset <= measured.ideal);
  });
}

test('with dataset eviction, the response to a PUT reports that the object is not stored, and its key is a miss', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_BYTES: '16Mi', KURA_CACHE_EVICTION: 'dataset' } });
  const body = randomBytes(40_000);
  const put = (key: string) =>
    call(shard.url, { method: 'PUT', path: `/objects/${key}`, body, headers: { 'content-length': body.length } });
  const notKept: string[] = [];
  for (let epoch = 0; epoch < 8 && notKept.length === 0; epoch += 1) {
    for (let at = 0; at < 500; at += 1) {
      const key = `n/set/${at}`;
      if ((await call(shard.url, { path: `/objects/${key}` })).status === 200) continue;
      const answer = await put(key);
      t.is(answer.status, 201);
      if (answer.headers['x-kura-stored'] === 'no') notKept.push(key);
    }
  }
  t.true(notKept.length > 0);
  t.is((await call(shard.url, { path: `/objects/${notKept[0]}` })).status, 404);
  t.is(await metric(shard, 'kura_cache_requests_total', 'result="not_stored"'), notKept.length);
  t.true((await metric(shard, 'kura_cache_used_bytes')) <= 16 * 1024 * 1024);
});
