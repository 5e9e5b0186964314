import { rm, writeFile } from 'node:fs/promises';
import test from 'ava';
import { callerHeaders } from '../../support/caller.ts';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { serve, startThrough } from '../fill/support/through.ts';
import { metric, startTestShard, temporaryDirectory } from '../support/shard.ts';
import { ask, asWriter, get, manager, put } from './support/console.ts';

test('the totals of a prefix add up its data sets, of all writers', async (t) => {
  const shard = await startTestShard(t);
  await put(shard, 'vision/train/a', 5000);
  await put(shard, 'vision/train/b', 100, asWriter('audio'));
  await put(shard, 'vision/deep/x/y/z/w', 1);
  await put(shard, 'vision2/train/a', 1);
  await put(shard, 'top', 1);
  await get(shard, 'vision/train/a');
  await get(shard, 'vision/train/b');
  await get(shard, 'vision/train/missing');
  await get(shard, 'elsewhere/missing');
  const all = await ask(shard, '/datasets?prefix=');
  t.is(all.status, 200);
  t.like(all.json, { shard: 'kura-cache-0/shard-0', complete: true, prefix: '', objects: 5, bytes: 6 * 4096, hits: 2, misses: 2 });
  t.deepEqual(
    all.json.children.map(({ prefix }: { prefix: string }) => prefix).toSorted(),
    ['vision/train/', 'vision/deep/x/y/', 'vision2/train/', ''].toSorted(),
  );
  const { json } = await ask(shard, '/datasets?prefix=vision%2F');
  t.like(json, { complete: true, prefix: 'vision/', objects: 3, bytes: 4 * 4096, hits: 2, misses: 1 });
  t.like(json.children[0], { prefix: 'vision/train/', objects: 2, bytes: 3 * 4096, hits: 2, misses: 1 });
  t.true(Math.abs(Date.parse(json.lastUsed) - Date.now()) < 60_000, json.lastUsed);
  t.like((await ask(shard, '/datasets?prefix=vision%2Fdeep%2Fx%2Fy%2F')).json, { complete: true, objects: 1 });
  // Only a part of the data set may be below.
  t.like((await ask(shard, '/datasets?prefix=vision%2Fdeep%2Fx%2Fy%2Fz%2F')).json, { complete: false, objects: 0, lastUsed: null });
  t.like((await ask(shard, '/datasets?prefix=vision%2Ftrain%2Fa%2F')).json, { complete: true, objects: 0, children: [] });
});

test('only GETs count as hits and misses', async (t) => {
  const shard = await startTestShard(t);
  await put(shard, 'set/train/a', 1);
  for (const name of ['a', 'missing'])
    await call(shard.url, { method: 'HEAD', path: `/objects/set/train/${name}`, headers: { ...asWriter('vision') } });
  t.like((await ask(shard, '/datasets?prefix=set%2F')).json, { objects: 1, hits: 0, misses: 0 });
  await get(shard, 'set/train/a');
  await get(shard, 'set/train/missing');
  t.like((await ask(shard, '/datasets?prefix=set%2F')).json, { hits: 1, misses: 1 });
});

test('a data set that a prefetch job has filled is not cold', async (t) => {
  const through = await startThrough(t, (request, response) => serve(response, request, Buffer.from('hello')));
  const headers = { ...callerHeaders({ fill: { origin: 'web', isPrefetch: true } }) };
  for (const name of ['set/a', 'set/b', 'set/b']) t.is((await through.get(name, { method: 'HEAD', headers })).status, 200);
  for (const name of ['set/a', 'set/b']) t.is((await through.get(name)).headers['x-kura-cache'], 'hit');
  const totals = async () => (await ask(through.shard, `/datasets?prefix=${encodeURIComponent(through.prefix)}set%2F`)).json;
  t.like(await totals(), { objects: 2, hits: 2, misses: 0 });
  // A GET that starts the fill is a miss, also here.
  t.is((await through.get('set/c')).headers['x-kura-cache'], 'fill');
  t.like(await totals(), { hits: 2, misses: 1 });
});

test('objects in (others) count for the empty prefix only, and make all others incomplete', async (t) => {
  const shard = await startTestShard(t);
  for (let at = 0; at < 257; at += 1) await put(shard, `many/${at}/x`, 1);
  t.like((await ask(shard, '/datasets?prefix=')).json, { complete: true, objects: 257 });
  const { json } = await ask(shard, '/datasets?prefix=many%2F');
  t.like(json, { complete: false, objects: 256 });
  t.is(json.children.length, 256);
});

test('after a start without a snapshot the shard learns the data sets of its objects', async (t) => {
  const first = await startTestShard(t);
  for (let at = 0; at < 30; at += 1) await put(first, `set/train/${at}`, 10);
  await first.close();
  const { directory } = first;
  await rm(`${directory}/snapshot`);
  const shard = await startTestShard(t, { directory });
  const { json } = await waitFor('complete', async () => {
    const answer = await ask(shard, '/datasets?prefix=set%2Ftrain%2F');
    return answer.json.complete === true && answer;
  });
  t.like(json, { objects: 30, hits: 0 });
});

test('only terms with manage=yes may ask, and a bad request is refused', async (t) => {
  const shard = await startTestShard(t);
  t.is((await ask(shard, '/datasets?prefix=', { headers: {} })).status, 403);
  t.is((await ask(shard, '/datasets?prefix=', { headers: callerHeaders() })).json.code, 'not-manager');
  const codes = async (path: string, method = 'GET') => {
    const { status, json } = await ask(shard, path, { method });
    return `${status} ${json.code}`;
  };
  for (const prefix of ['vision', '/../', 'a%20b%2F', `${'x'.repeat(1024)}%2F`, 'a%2F.%2F', '%FF%2F'])
    t.is(await codes(`/datasets?prefix=${prefix}`), '400 bad-prefix', prefix);
  t.is((await ask(shard, `/datasets?prefix=${'x'.repeat(1023)}%2F`)).status, 200);
  for (const target of ['/datasets', '/datasets?prefix=&prefix=', '/datasets?prefix=&x=1', '/datasets?prefix=&before=1'])
    t.is(await codes(target), '400 bad-query', target);
  for (const target of ['/datasets?prefix=&before=x', '/datasets?before=1', '/datasets'])
    t.is(await codes(target, 'DELETE'), '400 bad-query', target);
  for (const target of ['/datasets/keys', '/datasets/keys?prefix=&limit=0', '/datasets/keys?prefix=&limit=-1'])
    t.is(await codes(target), '400 bad-query', target);
  t.is(await codes('/datasets/removal?id=none'), '404 no-such-removal');
  t.is(await codes('/datasets/other'), '404 no-such-path');
  t.is(await codes('/datasets?prefix=', 'PUT'), '405 method-not-allowed');
  t.is(await codes('/datasets/keys?prefix=', 'DELETE'), '405 method-not-allowed');
});

test('with signatures, unsigned terms of a manager are 401', async (t) => {
  const file = `${await temporaryDirectory(t)}/credential`;
  await writeFile(file, 'first-credential-0123456789\n');
  const shard = await startTestShard(t, { environment: { KURA_CACHE_CREDENTIAL_FILE: file } });
  t.is((await ask(shard, '/datasets?prefix=', { headers: {} })).status, 401);
  t.is((await ask(shard, '/datasets?prefix=', { headers: manager() })).status, 401);
  t.is((await ask(shard, '/datasets?prefix=', { headers: callerHeaders({ credential: 'first-credential-0123456789' }) })).status, 403);
  t.is((await ask(shard, '/datasets?prefix=', { headers: manager('first-credential-0123456789') })).status, 200);
});

test('the metrics name the 100 data sets with most bytes, and counters continue when a data set returns', async (t) => {
  const shard = await startTestShard(t);
  for (let at = 0; at < 120; at += 1) await put(shard, `many/${at}/x`, at < 20 ? 1 : 5000);
  await get(shard, 'many/7/x');
  await get(shard, 'many/50/x');
  await get(shard, 'many/50/missing');
  const of = (name: string, dataset: string) => metric(shard, `kura_cache_dataset_${name}`, `dataset="${dataset}"`);
  t.is(await of('objects', '(others)'), 20);
  t.is(await of('bytes', '(others)'), 20 * 4096);
  t.is(await of('bytes', 'many/50/'), 8192);
  t.is(await of('hits_total', 'many/50/'), 1);
  t.is(await of('misses_total', 'many/50/'), 1);
  t.is(await of('hits_total', 'many/7/'), 0);
  t.is(await of('hits_total', '(others)'), 0);
  t.is(await metric(shard, 'kura_cache_dataset_objects'), 120);
  await put(shard, 'many/7/y', 20_000);
  t.is(await of('hits_total', 'many/7/'), 1);
});

test('evictions count by data set', async (t) => {
  const shard = await startTestShard(t, { environment: { KURA_CACHE_MAX_OBJECTS: '64' } });
  for (let at = 0; at < 50; at += 1) await put(shard, `old/${at}`, 1);
  for (let at = 0; at < 30; at += 1) await put(shard, `new/${at}`, 1);
  const evicted = await waitFor('objects are evicted and counted', async () => {
    const [evicted, all, bytes] = await Promise.all([
      metric(shard, 'kura_cache_dataset_evictions_total', 'dataset="old/"'),
      metric(shard, 'kura_cache_evicted_objects_total'),
      metric(shard, 'kura_cache_dataset_evicted_bytes_total', 'dataset="old/"'),
    ]);
    return evicted > 0 && evicted === all && bytes === evicted * 4096 && evicted;
  });
  t.true(evicted >= 16);
});
