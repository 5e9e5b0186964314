import { randomBytes } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { Groups } from '../../../services/cache/index/groups.ts';
import { noRow, ObjectIndex } from '../../../services/cache/index/object-index.ts';
import { Shares } from '../../../services/cache/index/shares.ts';
import { type CallerHeaders, callerHeaders } from '../../support/caller.ts';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { metric, startTestShard, type TestShard, temporaryDirectory } from '../support/shard.ts';

const bodyBytes = 250_000;
const body = randomBytes(bodyBytes);
const limit = 64 * 1024 * 1024;
const environment = { KURA_CACHE_MAX_BYTES: '64Mi' };

function put(shard: TestShard, key: string, { namespace, share }: { namespace: string; share?: string }, bytes = body) {
  const headers = { 'content-length': bytes.length, ...sharedBy(namespace, share) };
  return call(shard.url, { method: 'PUT', path: `/objects/${key}`, body: bytes, headers });
}

/** Headers with a share as text, which may be invalid. */
function sharedBy(namespace: string, share?: string): CallerHeaders {
  const headers = callerHeaders({ namespace });
  return share === undefined ? headers : { ...headers, 'x-kura-terms': `max-share=${share}; ${headers['x-kura-terms']}` };
}

async function fill(shard: TestShard, prefix: string, count: number, who: { namespace: string; share?: string }): Promise<string[]> {
  const keys = Array.from({ length: count }, (_, at) => `${prefix}/${at}`);
  for (const key of keys) await put(shard, key, who);
  return keys;
}

async function present(shard: TestShard, keys: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const key of keys) if ((await call(shard.url, { method: 'HEAD', path: `/objects/${key}` })).status === 200) found.push(key);
  return found;
}

const bytesOf = (shard: TestShard, namespace: string) => metric(shard, 'kura_cache_namespace_bytes', `namespace="${namespace}"`);

test('a namespace within its share loses no objects to a flood of a namespace without a share', async (t) => {
  const shard = await startTestShard(t, { environment });
  const kept = await fill(shard, 'vision/set', 50, { namespace: 'vision', share: '0.25' });
  await fill(shard, 'nlp/flood', 700, { namespace: 'nlp' });
  t.true((await metric(shard, 'kura_cache_evicted_objects_total')) > 400);
  t.deepEqual(await present(shard, kept), kept);
});

test('if all shares add up to 1, a namespace within its share loses no objects to a flood of another, which stays within its own share', async (t) => {
  const shard = await startTestShard(t, { environment });
  const kept = await fill(shard, 'vision/set', 100, { namespace: 'vision', share: '0.5' });
  const flood = Array.from({ length: 600 }, (_, at) => `nlp/flood/${at}`);
  for (let at = 0; at < flood.length; at += 8) {
    await Promise.all(flood.slice(at, at + 8).map((key) => put(shard, key, { namespace: 'nlp', share: '0.5' })));
    t.true((await bytesOf(shard, 'nlp')) <= limit / 2);
  }
  t.deepEqual(await present(shard, kept), kept);
  t.is(await metric(shard, 'kura_cache_namespace_share_ratio', 'namespace="nlp"'), 0.5);
});

test('a namespace over its share loses its oldest objects, although room is free', async (t) => {
  const shard = await startTestShard(t, { environment });
  const keys = await fill(shard, 'nlp/set', 60, { namespace: 'nlp', share: '0.1' });
  const room = Math.floor((limit * 0.1 * 15) / 16 / 253_952);
  const left = await present(shard, keys);
  t.deepEqual(left, keys.slice(-left.length), 'the oldest were evicted');
  t.true(left.length <= room && left.length >= room - 4, `${left.length} of ${room}`);
  t.true((await metric(shard, 'kura_cache_used_bytes')) < limit / 2);
});

test('an object larger than the share of its namespace is rejected, with a length and chunked', async (t) => {
  const shard = await startTestShard(t, { environment });
  const large = randomBytes(1_600_000);
  t.is((await put(shard, 'nlp/large', { namespace: 'nlp', share: '0.02' }, large)).status, 413);
  const headers = { 'transfer-encoding': 'chunked', ...sharedBy('nlp', '0.02') };
  t.is((await call(shard.url, { method: 'PUT', path: '/objects/nlp/large', body: large, headers })).status, 413);
  t.is((await put(shard, 'nlp/small', { namespace: 'nlp', share: '0.02' })).status, 201);
});

test('a lowered or removed share applies from the next PUT on', async (t) => {
  const shard = await startTestShard(t, { environment });
  await fill(shard, 'nlp/set', 100, { namespace: 'nlp', share: '0.5' });
  t.true((await bytesOf(shard, 'nlp')) > 100 * bodyBytes);
  await put(shard, 'nlp/one', { namespace: 'nlp', share: '0.1' });
  await waitFor('the rest is evicted', async () => (await bytesOf(shard, 'nlp')) <= limit * 0.1);
  await fill(shard, 'nlp/more', 100, { namespace: 'nlp' });
  t.true((await bytesOf(shard, 'nlp')) > 100 * bodyBytes);
  t.is(await metric(shard, 'kura_cache_namespace_share_ratio', 'namespace="nlp"'), 0);
});

test('shares survive a restart', async (t) => {
  const directory = await temporaryDirectory(t);
  const first = await startTestShard(t, { directory, environment });
  const kept = await fill(first, 'vision/set', 50, { namespace: 'vision', share: '0.25' });
  await first.close();
  const second = await startTestShard(t, { directory, environment });
  await waitFor('all is counted', async () => (await metric(second, 'kura_cache_recovered_ratio')) === 1);
  await fill(second, 'nlp/flood', 400, { namespace: 'nlp' });
  t.deepEqual(await present(second, kept), kept);
});

test('with dataset eviction, too, a share is a limit and a guarantee', async (t) => {
  const shard = await startTestShard(t, { environment: { ...environment, KURA_CACHE_EVICTION: 'dataset' } });
  const kept = await fill(shard, 'vision/set', 50, { namespace: 'vision', share: '0.25' });
  await fill(shard, 'nlp/flood', 300, { namespace: 'nlp', share: '0.25' });
  t.true((await bytesOf(shard, 'nlp')) <= limit / 4);
  t.deepEqual(await present(shard, kept), kept);
});

test('a share that is not a number above 0 and up to 1 is rejected', async (t) => {
  const shard = await startTestShard(t);
  for (const share of ['0', '1.5', '-1', 'x', '', '0.5, 0.5', '1e-3']) {
    const answer = await put(shard, 'nlp/a', { namespace: 'nlp', share });
    t.is(answer.status, 401, share);
    t.is(JSON.parse(answer.body.toString()).code, 'bad-caller');
  }
});

test('the metrics sum up all namespaces after the hundred largest', async (t) => {
  const shard = await startTestShard(t);
  for (let at = 0; at < 110; at += 1) await put(shard, `n${at}/a`, { namespace: `n${at}` }, Buffer.from('x'));
  t.is(await metric(shard, 'kura_cache_namespace_objects'), 110);
  t.is(await metric(shard, 'kura_cache_namespace_objects', 'namespace="(others)"'), 10);
});

const act = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('insert' as const),
      namespace: fc.nat(4),
      prefix: fc.nat(3),
      blocks: fc.integer({ min: 1, max: 5 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('learn' as const), namespace: fc.nat(4), share: fc.constantFrom(undefined, 0.1, 0.25, 0.5) }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'evict' as const }) },
);

test('pools agree with a naive model, and each victim is the oldest object of the pool that the model selects', (t) => {
  const property = fc.property(fc.array(act, { maxLength: 200 }), (acts) => {
    const usable = { bytes: 200 * 4096, files: 100 };
    const index = new ObjectIndex({ capacity: 1000 });
    const groups: Groups = new Groups({
      isEmpty: (group) => index.groupCount(group) === 0,
      onNamed: (group, { namespace }) => index.assign(group, shares.poolOf(namespace).number),
    });
    const shares: Shares = new Shares({ index, groups, usable: () => usable });
    const model: { namespace: string; blocks: number; tick: number }[] = [];
    const known = new Map<string, number>();
    let now = 1;
    const fillOf = (namespace: string) => {
      const own = model.filter((each) => each.namespace === namespace);
      const blocks = own.reduce((sum, each) => sum + each.blocks, 0);
      return Math.max((blocks * 4096) / usable.bytes, own.length / usable.files) / (known.get(namespace) as number);
    };
    for (const each of acts) {
      now += 1;
      if (each.kind === 'insert') {
        const namespace = `n${each.namespace}`;
        const group = groups.number({ namespace, prefix: `p${each.prefix}` });
        index.insert({ a: now, b: now, c: now, blocks: each.blocks, tick: now, group });
        model.push({ namespace, blocks: each.blocks, tick: now });
      } else if (each.kind === 'learn') {
        const namespace = `n${each.namespace}`;
        shares.learn(namespace, each.share);
        if (each.share === undefined) known.delete(namespace);
        else known.set(namespace, each.share);
      } else {
        const pool = shares.over() ?? shares.fullest();
        const row = index.oldest(pool.number);
        if ((row === noRow) !== (model.length === 0)) return false;
        if (row === noRow) continue;
        const withShare = [...known.keys()].filter((namespace) => model.some((one) => one.namespace === namespace));
        const most = Math.max(0, ...withShare.map(fillOf));
        const hasCommon = model.some(({ namespace }) => !known.has(namespace));
        const isCommon = most <= 1 && hasCommon;
        const victims = model.filter(({ namespace }) =>
          // Equal fills may differ in their last bit.
          isCommon ? !known.has(namespace) : known.has(namespace) && most - fillOf(namespace) < 1e-9,
        );
        const at = model.findIndex(({ tick }) => tick === index.tick(row));
        const victim = model[at];
        if (victim === undefined || !victims.includes(victim)) return false;
        const peers = victims.filter(({ namespace }) => isCommon || namespace === victim.namespace);
        if (peers.some(({ tick }) => tick < victim.tick)) return false;
        index.remove(row);
        model.splice(at, 1);
      }
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 300 }));
});

/** A thousand namespaces with 60 groups each, and counters of the groups and pools that shares access. */
function makeCrowd() {
  const index = new ObjectIndex({ capacity: 100_000 });
  const groups: Groups = new Groups({
    isEmpty: (group) => index.groupCount(group) === 0,
    onNamed: (group, { namespace }) => index.assign(group, shares.poolOf(namespace).number),
  });
  const shares: Shares = new Shares({ index, groups, usable: () => ({ bytes: 4096 * 100_000, files: 100_000 }) });
  const names = Array.from({ length: 1000 }, (_, at) => `n${at}`);
  let now = 0;
  for (const namespace of names) {
    for (let at = 0; at < 60; at += 1) {
      now += 1;
      index.insert({ a: now, b: now, c: now, blocks: 1, tick: now, group: groups.number({ namespace, prefix: `${at}/` }) });
    }
  }
  const steps = { groups: 0, pools: 0 };
  groups.name = (group) => {
    steps.groups += 1;
    return Groups.prototype.name.call(groups, group);
  };
  index.assign = (group, pool) => {
    steps.groups += 1;
    ObjectIndex.prototype.assign.call(index, group, pool);
  };
  const { pools } = index;
  pools.objects = (pool) => {
    steps.pools += 1;
    return Object.getPrototypeOf(pools).objects.call(pools, pool);
  };
  return { index, groups, shares, names, steps };
}

test('adding or removing a share accesses only the groups of its namespace', (t) => {
  const { shares, names, steps } = makeCrowd();
  for (const namespace of names) shares.learn(namespace, 0.001);
  t.is(steps.groups, 60 * names.length);
  steps.groups = 0;
  shares.learn('n500', undefined);
  shares.learn('n500', 0.001);
  shares.learn('n500', 0.002);
  t.is(steps.groups, 2 * 60);
});

test('the fullest of a thousand pools is found without a scan, also after changes of content and shares', (t) => {
  const { index, groups, shares, names, steps } = makeCrowd();
  for (const [at, namespace] of names.entries()) shares.learn(namespace, at === 700 ? 0.0001 : 0.001);
  const expectFullest = (namespace: string) => {
    steps.pools = 0;
    t.is(shares.fullest(), shares.poolOf(namespace));
    t.true(steps.pools <= 8, `${steps.pools}`);
  };
  expectFullest('n700');
  shares.learn('n700', 0.001);
  for (let at = 0; at < 50; at += 1)
    index.insert({ a: at, b: 0, c: 0, blocks: 1, tick: 1, group: groups.number({ namespace: 'n3', prefix: 'x/' }) });
  expectFullest('n3');
  shares.charge(shares.poolOf('n4'), 4096 * 1000);
  expectFullest('n4');
  const gone = shares.poolOf('n4');
  shares.learn('n4', undefined);
  const next = shares.learn('n-new', 0.5);
  t.is(next.number, gone.number);
  shares.charge(gone, 4096 * 1000);
  t.false(shares.isOver(next), 'an upload of a removed pool counts in no share');
});
