/** `kura size`, and the examples of docs/operate.md. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { parse } from 'yaml';
import { type SizeInput, sizeOf } from '../../services/cli/size-model.ts';
import { startKura } from './support/kura.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const operate = await readFile(path.join(root, 'docs', 'operate.md'), 'utf8');

test('the examples of docs/operate.md are what the command prints', async (t) => {
  const examples = [...operate.matchAll(/```sh\nkura (size .*)\n```\n\n```\n([^`]*)```/g)];
  t.is(examples.length, 2);
  const { run } = await startKura(t);
  for (const [, words, expected] of examples) {
    const { status, stdout, stderr } = await run((words as string).split(' '), { environment: {} });
    t.is(Buffer.from(stdout, 'latin1').toString(), expected as string);
    t.deepEqual([status, stderr], [0, '']);
  }
});

test('the values of the manifests that the model assumes are those of the manifests', async (t) => {
  const envoy = await readFile(path.join(root, 'k8s', 'base', 'envoy.yaml'), 'utf8');
  for (const value of [
    'averageValue: 2400m',
    '- --concurrency\n            - "4"',
    'memory: 2304Mi',
    'cpu: "2"',
    'minReplicas: 6',
    'maxReplicas: 30',
  ])
    t.true(envoy.includes(value), value);
  const bootstrap = parse(await readFile(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8'));
  const cluster = bootstrap.static_resources.clusters.find(({ name }: { name: string }) => name === 'kura-cache');
  const { timeout, interval, no_traffic_interval, unhealthy_threshold, interval_jitter_percent } = cluster.health_checks[0];
  t.deepEqual([timeout, interval, no_traffic_interval, unhealthy_threshold, interval_jitter_percent], ['1s', '1s', '1s', 2, 20]);
});

const inputs: fc.Arbitrary<SizeInput> = fc.record({
  clients: fc.integer({ min: 1, max: 200_000 }),
  shards: fc.integer({ min: 1, max: 5_000 }),
  diskBytes: fc.integer({ min: 2 ** 30, max: 2 ** 43 }),
  objectBytes: fc.integer({ min: 1, max: 2 ** 30 }),
  bytesPerSecond: fc.integer({ min: 1, max: 2 ** 38 }),
  zones: fc.integer({ min: 1, max: 9 }),
  envoyThreads: fc.integer({ min: 1, max: 16 }),
});

test('the autoscaler at its target has the CPU that the load needs, between its minimum and its maximum', (t) => {
  const check = fc.property(inputs, (input) => {
    const { envoys } = sizeOf(input);
    const isEnough = envoys.count * input.envoyThreads * 0.6 >= envoys.cores - 1e-9;
    return isEnough && envoys.minReplicas <= envoys.count && envoys.count <= envoys.maxReplicas && envoys.minReplicas >= 2 * input.zones;
  });
  t.notThrows(() => fc.assert(check));
});

test('more load, more shards or larger disks never need less', (t) => {
  const check = fc.property(inputs, fc.integer({ min: 2, max: 4 }), (input, factor) => {
    const size = sizeOf(input);
    const loaded = sizeOf({ ...input, bytesPerSecond: input.bytesPerSecond * factor });
    const wider = sizeOf({ ...input, shards: input.shards * factor });
    const larger = sizeOf({ ...input, diskBytes: input.diskBytes * factor });
    return (
      loaded.envoys.count >= size.envoys.count &&
      wider.healthChecks.intervalSeconds >= size.healthChecks.intervalSeconds &&
      wider.eds.bytesPerChange >= size.eds.bytesPerChange &&
      larger.shards.memoryBytes >= size.shards.memoryBytes
    );
  });
  t.notThrows(() => fc.assert(check));
});

test('health checks cost at most 5 % of a core, at intervals up to 30 s', (t) => {
  const check = fc.property(inputs, (input) => {
    const { intervalSeconds, envoyShare, shardShare } = sizeOf(input).healthChecks;
    return intervalSeconds === 30 || Math.max(envoyShare, shardShare) <= 0.05;
  });
  t.notThrows(() => fc.assert(check));
  t.is(sizeOf({ ...fc.sample(inputs, 1)[0], shards: 600, bytesPerSecond: 1 } as SizeInput).healthChecks.intervalSeconds, 1);
});

const small: SizeInput = {
  clients: 10,
  shards: 4,
  diskBytes: 2 ** 40,
  objectBytes: 2 ** 20,
  bytesPerSecond: 2 ** 30,
  zones: 3,
  envoyThreads: 4,
};

test('a small cluster gets the numbers of the base, and no warning', (t) => {
  const { envoys, healthChecks, authz, warnings } = sizeOf(small);
  t.deepEqual([envoys.count, envoys.minReplicas, healthChecks.intervalSeconds, authz.form], [6, 6, 1, 'beside Envoy']);
  t.deepEqual(warnings, []);
});

for (const [name, change, warning] of [
  ['one shard for the whole load', { shards: 1, bytesPerSecond: 2 ** 34 }, /a shard needs 7\.2 cores, but has one event loop/],
  ['too many objects', { objectBytes: 4096 }, /it holds at most 134000000: use more, smaller shards/],
  ['more tokens than authz remembers', { clients: 200_000 }, /set KURA_AUTHZ_CACHED_TOKENS above 200000/],
  ['an Envoy with other threads than the base', { envoyThreads: 8 }, /set --concurrency/],
  ['more Envoys than are useful', { shards: 200, bytesPerSecond: 2 ** 39 }, /use larger Envoys/],
  ['too many shards for eds', { shards: 5_000 }, /eds needs more than its limit of 768 MiB/],
] as const) {
  test(`${name} is a warning`, (t) => {
    t.regex(sizeOf({ ...small, ...change }).warnings.join('\n'), warning);
  });
}

test('many Envoys and many Pods get authz as a Deployment', (t) => {
  const { form, reviewsPerSecond } = sizeOf({ ...small, clients: 50_000 }).authz;
  t.deepEqual([form, reviewsPerSecond], ['authz-deployment', 1_250]);
});

test('--json has the same numbers, and a bad input is one line', async (t) => {
  const { run } = await startKura(t);
  const environment = {};
  const { status, stdout } = await run(['size', '--clients', '10', '--shards', '4', '--throughput', '1Gi', '--json'], { environment });
  t.is(status, 0);
  t.deepEqual(JSON.parse(stdout), { input: small, ...sizeOf(small) });
  for (const [words, message] of [
    [['--shards', '4'], /^kura: set --nodes, or all of --clients, --shards and --throughput\n$/],
    [['--nodes', '0'], /must be a whole number from 1/],
    [['--nodes', '3', '--disk-size', '12 GB'], /It must be a quantity of bytes above 0, such as 3500Gi/],
    [['--nodes', '3', '--object-size', '0'], /It must be a quantity of bytes above 0/],
    [['--nodes', '3', '--disk-size', '1Gi', '--object-size', '2Gi'], /^kura: --object-size is larger than --disk-size\n$/],
  ] as const) {
    const ended = await run(['size', ...words], { environment });
    t.is(ended.status, 2);
    t.regex(ended.stderr, message);
  }
});
