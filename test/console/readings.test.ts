/** What the console reads of the parts, and what it keeps of that. */
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { Collector } from '../../services/console/readings/collector.ts';
import { boundOf99Percent, History, total, totals } from '../../services/console/readings/history.ts';
import { HistoryFile } from '../../services/console/readings/history-file.ts';
import { readAuthz, readEnvoy } from '../../services/console/readings/part-readings.ts';
import { type Part, partsOf } from '../../services/console/readings/parts.ts';
import { Rounds } from '../../services/console/readings/rounds.ts';
import { readStart } from '../../services/console/readings/samples.ts';
import { noTotals, readShardNumbers } from '../../services/shared/shard-numbers.ts';
import { candidate } from '../eds/support/shards.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';

const minute = 60_000;

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

test('of Envoy, the responses to workloads are counted, and their errors and times', (t) => {
  const prefix = 'envoy_http_conn_manager_prefix="objects"';
  const { counts } = readEnvoy(
    [
      '# TYPE envoy_http_downstream_rq_xx counter',
      `envoy_http_downstream_rq_xx{envoy_response_code_class="2",${prefix}} 90`,
      `envoy_http_downstream_rq_xx{envoy_response_code_class="5",${prefix}} 10`,
      'envoy_http_downstream_rq_xx{envoy_response_code_class="5",envoy_http_conn_manager_prefix="metrics"} 7',
      `envoy_http_downstream_rq_time_bucket{${prefix},le="5"} 50`,
      `envoy_http_downstream_rq_time_bucket{${prefix},le="+Inf"} 100`,
      `envoy_http_downstream_rq_time_sum{${prefix}} 1`,
    ].join('\n'),
  );
  t.deepEqual(counts, { responses: 100, errors: 10, 'within 5': 50, 'within +Inf': 100 });
});

test('of authz, refusals and differences of the next policy are counted by namespace', (t) => {
  const metrics = [
    'kura_build_info{version="1.2.3"} 1',
    'kura_authz_checks_total{decision="allow",reason="remembered",namespace="vision"} 100',
    'kura_authz_checks_total{decision="forbidden",reason="rule",namespace="vision"} 1',
    'kura_authz_checks_total{decision="forbidden",reason="no-rule",namespace="vision"} 2',
    'kura_authz_checks_total{decision="unauthenticated",reason="bad-token",namespace="(unknown)"} 5',
    'kura_authz_shadow_differences_total{next="deny",namespace="nlp"} 4',
  ].join('\n');
  const policy = JSON.stringify({ problem: 'the policy is rejected: line 1' });
  t.deepEqual(readAuthz({ metrics, policy }), {
    version: '1.2.3',
    policy: { problem: 'the policy is rejected: line 1' },
    counts: { 'refused forbidden vision': 3, 'refused unauthenticated (unknown)': 5, 'shadow deny nlp': 4 },
  });
});

test('the parts are the Pods with a metrics port; authz is beside Envoy or alone', (t) => {
  const pod = (name: string, label: string, ports: { name: string; containerPort: number }[], phase = 'Running') => ({
    metadata: { name, labels: { 'app.kubernetes.io/name': label } },
    spec: { initContainers: [], containers: [{ name: 'x', image: `registry:5000/kura:0.2.0@sha256:${'a'.repeat(64)}`, ports }] },
    status: { podIP: '10.0.0.1', phase },
  });
  const parts = partsOf([
    pod('kura-eds-a', 'kura-eds', [
      { name: 'xds', containerPort: 18000 },
      { name: 'metrics', containerPort: 9904 },
    ]),
    pod('kura-envoy-a', 'kura-envoy', [
      { name: 'authz-metrics', containerPort: 9903 },
      { name: 'metrics', containerPort: 9902 },
    ]),
    pod('kura-eds-b', 'kura-eds', [{ name: 'metrics', containerPort: 9904 }], 'Failed'),
    pod('other', 'other', [{ name: 'metrics', containerPort: 1 }]),
    { ...pod('kura-eds-c', 'kura-eds', [{ name: 'metrics', containerPort: 9904 }]), status: { phase: 'Pending' } },
  ]);
  const common = { address: '10.0.0.1', tag: '0.2.0' };
  t.deepEqual(parts, [
    { kind: 'envoy', name: 'kura-envoy-a', port: 9902, ...common },
    { kind: 'authz', name: 'kura-envoy-a', port: 9903, ...common },
    { kind: 'eds', name: 'kura-eds-a', port: 9904, ...common },
  ]);
});

test('each minute has its own counts, a restart of a source included, and minutes are forgotten after a day', (t) => {
  const history = new History();
  history.take('a', { hits: 1_000 }, 0);
  history.take('a', { hits: 1_010 }, minute);
  history.take('a', { hits: 4 }, minute + 1);
  history.take('b', { hits: 50 }, minute);
  const seen = (now: number) => history.minutes(now, 60).map(({ counts }) => counts.hits ?? 0);
  t.is(seen(minute).at(-1), 14, 'what was before the first look belongs to no minute');
  t.is(seen(3 * minute).at(-3), 14);
  t.is(seen(3 * minute).length, 60);
  t.true(seen(61 * minute).every((hits) => hits === 0));
  for (let at = 2; at < 2_000; at += 1) history.take('a', { hits: 4 + at }, at * minute);
  t.is(history.all.length, 1_440);
  t.is(total(history.minutes(1_999 * minute, 60), 'hits'), 60);
});

test('a source that is new has no base', (t) => {
  const history = new History();
  history.take('a', { hits: 5 }, 0, true);
  history.take('a', { hits: 7 }, 0, true);
  history.take('b', { hits: 100 }, 0, false);
  t.is(total(history.all, 'hits'), 7);
});

test('the start of a process is in the metrics of a service, and its age in those of Envoy', (t) => {
  t.is(readStart('# HELP\nprocess_start_time_seconds 12\n', 0), 12_000);
  t.is(readStart('envoy_server_uptime{} 3\n', 10_000), 7_000);
  t.is(readStart('other 1\n', 0), undefined);
});

test('counts of a part that starts after the console count from its start, those of an older part from the first look', async (t) => {
  const page = (start: number) =>
    `kura_cache_limit_bytes 1\nkura_cache_requests_total{method="GET",result="hit"} 9\nprocess_start_time_seconds ${start}\n`;
  const ports = [
    await serve(t, (_request, response) => response.end(page(995))),
    await serve(t, (_request, response) => response.end(page(900))),
  ];
  const shards = ports.map((metricsPort, index) => candidate(index, { address: '127.0.0.1', metricsPort }));
  const history = new History();
  await new Collector({ cluster: { shards: () => shards, parts: [] }, history, now: () => 1_000_000 }).round(new AbortController().signal);
  t.is(total(history.all, 'hits'), 9);
});

test('a clock that is set back adds to the newest minute, and the number of counts is bounded', (t) => {
  const history = new History();
  history.take('a', {}, 0);
  history.take('a', { hits: 1 }, 5 * minute);
  history.take('a', { hits: 3 }, 2 * minute);
  t.deepEqual(history.all, [{ minute: 5, counts: { hits: 3 } }]);
  history.take('a', Object.fromEntries(Array.from({ length: 3_000 }, (_, index) => [`refused ${index}`, 1])), 5 * minute);
  t.is(Object.keys(history.all[0]?.counts ?? {}).length, 2_000);
  t.is(totals(history.all, 'refused ').size, 1_999);
});

test('99 % of the responses ended within a bound of the histogram', (t) => {
  const within = (counts: Record<string, number>) => boundOf99Percent([{ minute: 0, counts }]);
  t.is(within({}), undefined);
  t.is(within({ 'within 5': 98, 'within 25': 99, 'within +Inf': 100 }), 25);
  t.is(within({ 'within 5': 98, 'within 25': 98, 'within +Inf': 100 }), Number.POSITIVE_INFINITY);
});

test('a history file survives a restart, and one of another form counts as none', async (t) => {
  const file = path.join(await temporaryFolder(t), 'history.json');
  const lines: string[] = [];
  const saved = new HistoryFile({ file, log: pino({}, { write: (line) => void lines.push(line) }) });
  t.deepEqual(saved.read(), []);
  t.deepEqual(lines, []);
  const minutes = [{ minute: 7, counts: { hits: 1 } }];
  await saved.write(minutes);
  t.deepEqual(saved.read(), minutes);
  for (const text of ['{', '{"format":2,"minutes":[]}', '{"format":1,"minutes":[{"minute":"x"}]}', '{"format":1,"minutes":[null]}']) {
    await writeFile(file, text);
    t.deepEqual(saved.read(), [], text);
  }
  t.is(lines.length, 4);
  const nowhere = new HistoryFile({ file: path.join(file, 'x'), log: pino({}, { write: (line) => void lines.push(line) }) });
  await nowhere.write(minutes);
  await nowhere.write(minutes);
  t.is(lines.length, 5, 'one line for a fault that stays');
  t.true((await readFile(file, 'utf8')).length > 0);
});

async function serve(t: ExecutionContext, answer: RequestListener): Promise<number> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

test('a part with an oversized, missing or invalid response has no numbers, and the others keep theirs', async (t) => {
  const good = await serve(t, (_request, response) => response.end('kura_cache_limit_bytes 100\n'));
  const endless = await serve(t, (_request, response) => response.end('x'.repeat(5 * 1024 * 1024)));
  const other = await serve(t, (_request, response) => response.end('hello'));
  const fault = await serve(t, (_request, response) => response.writeHead(503).end('kura_cache_limit_bytes 100\n'));
  const silent = await serve(t, () => {});
  const ports = [good, endless, other, fault, silent, 1];
  let shards = ports.map((metricsPort, index) => candidate(index, { address: '127.0.0.1', metricsPort }));
  const parts: Part[] = [{ kind: 'authz', name: 'kura-envoy-a', address: '127.0.0.1', port: other, tag: '' }];
  const collector = new Collector({ cluster: { shards: () => shards, parts }, history: new History(), now: Date.now, maxAnswerMs: 500 });
  const signal = new AbortController().signal;
  await collector.round(signal);
  t.deepEqual([...collector.shards.keys()], ['kura-cache-0/shard-0']);
  t.is(collector.authz.size, 0);
  t.deepEqual(collector.answers, { answering: 1, silent: 6 });
  shards = shards.slice(1);
  await collector.round(signal);
  t.is(collector.shards.size, 0, 'a shard that is gone is forgotten');
});

test('many silent parts do not delay the numbers of the others', async (t) => {
  let asked = 0;
  const silent = await serve(t, () => {
    asked += 1;
  });
  const good = await serve(t, (_request, response) => response.end('kura_cache_limit_bytes 100\n'));
  const shards = Array.from({ length: 65 }, (_, index) =>
    candidate(index, { address: '127.0.0.1', metricsPort: index === 64 ? good : silent }),
  );
  const collector = new Collector({
    cluster: { shards: () => shards, parts: [] },
    history: new History(),
    now: Date.now,
    maxAnswerMs: 500,
  });
  const signal = new AbortController().signal;
  await collector.round(signal);
  t.is(asked, 64);
  const round = collector.round(signal);
  collector.shards.clear();
  await waitFor('the good shard is asked first', () => collector.shards.size === 1);
  t.true(asked <= 64 + 8);
  await round;
  t.is(asked, 64 + 32);
});

test('rounds are seldom while nobody looks, and a look begins one at once', async (t) => {
  let count = 0;
  const rounds = new Rounds({
    round: async () => {
      count += 1;
    },
    isKnown: () => true,
    watchedMs: 20,
    idleMs: 3_600_000,
  });
  t.teardown(() => rounds.close());
  await waitFor('the first round', () => count === 1);
  await rounds.look();
  t.is(count, 2);
  await waitFor('further rounds while somebody looks', () => count > 4);
});

test('a look waits for a round only for a moment', async (t) => {
  const rounds = new Rounds({
    round: ({ signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
    isKnown: () => true,
    watchedMs: 20,
    idleMs: 20,
  });
  t.teardown(() => rounds.close());
  await rounds.look();
  t.pass();
});
