import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import xxhash from 'xxhash-wasm';
import { readSlices } from '../../services/eds/shard.ts';
import { History } from '../../services/eds/status/history.ts';
import { html } from '../../services/eds/status/html.ts';
import { KeySharesCache } from '../../services/eds/status/key-shares.ts';
import { fillTable } from '../../services/eds/status/maglev.ts';
import { viewPolicy } from '../../services/eds/status/policy.ts';
import { ShardWatch } from '../../services/eds/status/shard-watch.ts';
import { noTotals, readShardNumbers } from '../../services/shared/shard-numbers.ts';
import { waitFor } from '../support/wait.ts';
import { startCluster } from './support/cluster.ts';
import { candidate, candidates } from './support/shards.ts';

test('the metrics port is the object port + 100, unless the slice has a port of its own for it', (t) => {
  const read = (ports: { name: string; port: number }[]) =>
    readSlices([{ addressType: 'IPv4', metadata: {}, endpoints: [{ addresses: ['10.0.0.1'], targetRef: { name: 'p' } }], ports }], {
      identity: 'pod',
      podOf: () => undefined,
    }).candidates.map(({ metricsPort }) => metricsPort);
  const shards = [
    { name: 'shard-0', port: 7000 },
    { name: 'shard-1', port: 7001 },
  ];
  t.deepEqual(read(shards), [7100, 7101]);
  t.deepEqual(read([...shards, { name: 'metrics-1', port: 9 }]), [7100, 9]);
});

test('the metrics of a shard are read with any label values, and other pages are rejected', (t) => {
  const numbers = readShardNumbers(
    [
      '# TYPE kura_cache_requests_total counter',
      'kura_cache_requests_total{method="GET",result="hit"} 5',
      'kura_cache_requests_total{method="GET",result="partial"} 1',
      'kura_cache_requests_total{method="GET",result="miss"} 2',
      'kura_cache_requests_total{method="PUT",result="stored"} 3',
      'kura_cache_requests_total{method="PUT",result="refused"} 4',
      'kura_cache_requests_total{method="DELETE",result="failed"} 1',
      'kura_cache_request_seconds_bucket{method="GET",le="0.1"} 7',
      'kura_cache_request_seconds_bucket{method="PUT",le="0.1"} 3',
      'kura_cache_request_seconds_bucket{method="GET",le="+Inf"} 8',
      'kura_cache_limit_bytes 100',
      'kura_cache_serving 1',
      'kura_cache_namespace_bytes{namespace="a\\"},b"} 7',
      'kura_cache_namespace_share_ratio{namespace="a\\"},b"} 0.5',
    ].join('\n'),
  );
  t.deepEqual(numbers?.totals, { ...noTotals, hits: 6, misses: 2, puts: 3, others: 5 });
  t.like(numbers, { stored: 3, failed: 1 });
  t.deepEqual(numbers?.getTimes, [
    ['0.1', 7],
    ['+Inf', 8],
  ]);
  t.true(numbers?.isServing);
  t.deepEqual([...(numbers?.namespaces ?? [])], [['a"},b', { objects: 0, bytes: 7, share: 0.5 }]]);
  t.is(readShardNumbers('<html>'), undefined);
});

test('each minute has its own numbers, a restart of a shard included, and old minutes are forgotten', (t) => {
  const history = new History({ startedAt: 0 });
  const minute = 60_000;
  history.take('a', { ...noTotals, hits: 1_000 }, 0);
  history.take('a', { ...noTotals, hits: 1_010 }, minute);
  history.take('a', { ...noTotals, hits: 4 }, minute + 1);
  history.take('b', { ...noTotals, hits: 50 }, minute);
  const seen = (now: number) => history.minutes(now).map(({ hits }) => hits);
  t.is(seen(minute).at(-1), 14, 'what was before the first look belongs to no minute');
  t.is(seen(3 * minute).at(-3), 14);
  t.is(seen(3 * minute).length, 60);
  t.true(seen(61 * minute).every((hits) => hits === 0));
  for (let at = 2; at < 200; at += 1) history.take('a', { ...noTotals, hits: 4 + at }, at * minute);
  t.is(
    seen(199 * minute).reduce((one, other) => one + other),
    60,
  );
});

test('text that is inserted into the page stays text', (t) => {
  t.is(html`<p>${'<script>"&\''}</p>${[html`<b>${1}</b>`]}`.text, '<p>&lt;script&gt;&quot;&amp;&#39;</p><b>1</b>');
  fc.assert(fc.property(fc.string(), (text) => !/[<>"']/.test(html`${text}`.text)));
});

test('keys are shared by weight, and an unhealthy shard has none', async (t) => {
  const shards = [candidate(0, { weight: 3 }), candidate(1), candidate(2, { health: 'UNHEALTHY' })];
  const shares = await new KeySharesCache({ placement: 'global' }).sharesOf(shards);
  t.true(Math.abs((shares.get('kura-cache-0/shard-0') ?? 0) - 0.75) < 0.001);
  t.true(Math.abs((shares.get('kura-cache-1/shard-0') ?? 0) - 0.25) < 0.001);
  t.is(shares.get('kura-cache-2/shard-0'), undefined);
  const zones = await new KeySharesCache({ placement: 'zone' }).sharesOf([candidate(0), candidate(1, { zone: 'b' })]);
  t.deepEqual([...zones.values()], [1, 1]);
  t.is((await new KeySharesCache({ placement: 'global' }).sharesOf([])).size, 0);
});

test('a table of 1,000 shards is built in pieces that leave room for other work', async (t) => {
  const { h64 } = await xxhash();
  const work = fillTable(h64, candidates(1_000));
  const pieces: number[] = [];
  for (let isDone: boolean | undefined = false; !isDone; ) {
    const before = performance.now();
    isDone = work.next().done;
    pieces.push(performance.now() - before);
  }
  pieces.sort((one, other) => one - other);
  const [middle, longest] = [pieces[pieces.length >> 1] as number, pieces.at(-1) as number];
  t.log(`${pieces.length} pieces, ${middle.toFixed(1)} ms each, the longest ${longest.toFixed(1)} ms`);
  t.true(pieces.length > 100);
  t.true(middle < 20, 'a busy machine may stretch some');
});

async function page(t: ExecutionContext, body: string): Promise<number> {
  const server = createServer((_request, response) => response.end(body));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

test('a shard with an oversized, missing or invalid response has no numbers, and the others keep theirs', async (t) => {
  const good = await page(t, 'kura_cache_limit_bytes 100\n');
  const endless = await page(t, 'x'.repeat(2 * 1024 * 1024));
  const other = await page(t, 'hello');
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    silent.closeAllConnections();
    silent.close();
  });
  const ports = [good, endless, other, (silent.address() as AddressInfo).port, 1];
  let shards = ports.map((metricsPort, index) => candidate(index, { address: '127.0.0.1', metricsPort }));
  const watch = new ShardWatch({ shards: () => shards, intervalMs: 20 });
  t.teardown(() => watch.close());
  await waitFor('the good shard responds again after a round with all', () => watch.numbersOf('kura-cache-0/shard-0') !== undefined);
  for (const index of [1, 2, 3, 4]) t.is(watch.numbersOf(`kura-cache-${index}/shard-0`), undefined);
  shards = shards.slice(1);
  await waitFor('one that is gone is forgotten', () => watch.numbersOf('kura-cache-0/shard-0') === undefined);
});

const event = (reason: string, hash: string, at: string, message = '') => ({
  metadata: { name: `kura-policy.${reason.toLowerCase()}.${hash}` },
  involvedObject: {},
  reason,
  message,
  lastTimestamp: new Date(at),
});

test('the policy is shown with the verdict of authz', (t) => {
  const configMap = { data: { 'policy.yaml': 'a' } };
  const hash = 'ca978112ca1b';
  const accepted = event('PolicyAccepted', hash, '2026-01-02T00:00:00Z');
  t.is(viewPolicy(undefined, [], undefined), undefined);
  t.is(viewPolicy(configMap, [], undefined)?.verdict.kind, 'unknown');
  const good = viewPolicy(configMap, [accepted], undefined);
  t.is(good?.hash, hash);
  t.is(good?.verdict.kind, 'accepted');
  t.deepEqual(good?.changedAt, new Date('2026-01-02T00:00:00Z'));
  const before = event('PolicyAccepted', '123456789012', '2026-01-01T00:00:00Z');
  const bad = viewPolicy(configMap, [before, event('PolicyRejected', hash, '2026-01-02T00:00:00Z', 'line 1: no')], undefined);
  t.like(bad?.verdict, { kind: 'rejected', message: 'line 1: no', inForce: '123456789012' });
  const later = (at: string) => ({ ...accepted, lastTimestamp: new Date(at) });
  const rejected = event('PolicyRejected', 'bad000000000', '2026-01-03T00:00:00Z');
  const other = event('PolicyAccepted', 'ccc000000000', '2026-01-04T00:00:00Z');
  // After A, a bad document, C and A again.
  t.like(viewPolicy(configMap, [later('2026-01-05T00:00:00Z'), rejected, other], undefined)?.verdict, {
    kind: 'accepted',
    at: new Date('2026-01-05T00:00:00Z'),
  });
  // After A, B and the same bad document as before.
  const again = event('PolicyRejected', hash, '2026-01-06T00:00:00Z');
  const next = event('NextPolicyAccepted', '999000000000', '2026-01-07T00:00:00Z');
  t.like(viewPolicy(configMap, [again, next, other, accepted, before], undefined)?.verdict, {
    kind: 'rejected',
    at: new Date('2026-01-06T00:00:00Z'),
    inForce: 'ccc000000000',
  });
  const managedFields = [
    { fieldsV1: { 'f:data': {} }, time: new Date('2026-03-01T00:00:00Z') },
    { fieldsV1: { 'f:metadata': {} }, time: new Date('2026-04-01T00:00:00Z') },
  ];
  t.deepEqual(viewPolicy({ ...configMap, metadata: { managedFields } }, [], undefined)?.changedAt, new Date('2026-03-01T00:00:00Z'));
});

test('the page works without a policy, without shards and without their numbers', async (t) => {
  const cluster = await startCluster(t);
  const eds = await cluster.startEds({ KURA_EDS_STATUS_INTERVAL: '0s' });
  const url = `http://${eds.listening.metrics}/`;
  const text = await (await fetch(url)).text();
  t.true(text.includes('There are no shards.'));
  t.true(text.includes('ConfigMap kura-policy does not exist'));
  t.true(text.includes('KURA_EDS_STATUS_INTERVAL is 0'));
  await cluster.set([{ name: 'kura-cache-0', address: '127.0.0.1' }]);
  await waitFor('the shard is listed', async () => (await (await fetch(url)).text()).includes('no answer on its metrics port'));
});
