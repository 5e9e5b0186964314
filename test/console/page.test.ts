/** The page without a browser: what its first line says, and the shares of the keys. */
import test from 'ava';
import fc from 'fast-check';
import xxhash from 'xxhash-wasm';
import { html } from '../../services/console/page/html.ts';
import { KeySharesCache } from '../../services/console/page/key-shares.ts';
import { fillTable } from '../../services/console/page/maglev.ts';
import { pageOf } from '../../services/console/page/page.ts';
import { type StatusSources, statusOf } from '../../services/console/page/status.ts';
import type { PolicyReport } from '../../services/console/readings/part-readings.ts';
import type { Part } from '../../services/console/readings/parts.ts';
import { noTotals, type ShardNumbers } from '../../services/shared/shard-numbers.ts';
import { candidate, candidates } from '../eds/support/shards.ts';

const numbers: ShardNumbers = {
  isServing: true,
  objects: 1,
  usedBytes: 10,
  limitBytes: 100,
  evicted: 0,
  victimIdleSeconds: 0,
  totals: noTotals,
  stored: 0,
  failed: 0,
  getTimes: [],
  namespaces: new Map([['vision', { objects: 1, bytes: 10, share: undefined }]]),
};
const policy: PolicyReport = { inForce: { hash: 'aaa', mode: 'enforce', since: '2026-01-01T00:00:00.000Z', document: 'kind: X' } };
const part = (kind: Part['kind'], name: string): Part => ({ kind, name, address: '10.0.0.1', port: 1, tag: 'v1' });
const stream = { node: 'envoy-a', zone: 'a', peer: '10.0.0.1:1', openedAt: '2026-01-01T00:00:00.000Z', isCurrent: true, types: {} };
const assignment = { identity: 'pod', placement: 'global', version: 'v', isStale: false, held: [] as string[], refused: [] } as const;
const day = Array.from({ length: 1_440 }, (_, minute) => ({ minute, counts: {} as Record<string, number> }));

/** Two shards, one Pod of each part, and all in order. */
function sources(changes: Partial<StatusSources> = {}): StatusSources {
  return {
    at: new Date(0),
    service: 'kura-cache',
    isListCurrent: true,
    shards: candidates(2),
    parts: [part('envoy', 'kura-envoy-a'), part('authz', 'kura-envoy-a'), part('eds', 'kura-eds-a')],
    shardReadings: new Map(candidates(2).map(({ hashKey }) => [hashKey, { numbers, version: '1.0.0' }])),
    eds: new Map([['kura-eds-a', { version: '1.0.0', assignment, streams: [stream] }]]),
    authz: new Map([['kura-envoy-a', { version: '1.0.0', policy, counts: {} }]]),
    envoys: new Map([['kura-envoy-a', { counts: {} }]]),
    others: new Map(),
    assignment,
    keyShares: new Map(),
    datasets: undefined,
    day,
    ...changes,
  };
}

const findings = (changes: Partial<StatusSources>): string[] =>
  statusOf(sources(changes)).findings.map(({ level, text }) => `${level}: ${text}`);
const withPolicy = (report: PolicyReport) => ({ authz: new Map([['kura-envoy-a', { version: '1', policy: report, counts: {} }]]) });
const lastMinute = (counts: Record<string, number>) => ({ day: [...day.slice(1), { minute: 1_440, counts }] });

test('with everything in order, the first line reports it', (t) => {
  t.deepEqual(findings({}), []);
  t.true(pageOf(statusOf(sources()), { style: '', script: '' }).includes('Everything is in order.'));
});

for (const [what, changes, expected] of [
  [
    'a shard that does not answer',
    { shardReadings: new Map() },
    [/^bad: 2 shards do not answer: kura-cache-0\/shard-0, kura-cache-1\/shard-0\.$/],
  ],
  ['no shard', { shards: [], shardReadings: new Map() }, [/^bad: There are no shards\.$/]],
  [
    'a shard that serves nothing',
    {
      shardReadings: new Map(
        candidates(2).map(({ hashKey }, at) => [hashKey, { numbers: { ...numbers, isServing: at === 0 }, version: '1' }]),
      ),
    },
    [/^bad: 1 shard is out of service: kura-cache-1\/shard-0\.$/],
  ],
  ['a shard that drains', { shards: [candidate(0, { health: 'DRAINING' }), candidate(1)] }, [/^warn: 1 shard is draining: kura-cache-0/]],
  [
    'a shard that a collapse holds',
    { assignment: { ...assignment, held: ['kura-cache-9/shard-0'] } },
    [/^bad: 1 shard vanished from Kubernetes together, and eds still lists it: kura-cache-9/],
  ],
  [
    'errors above 0.1 %',
    lastMinute({ responses: 1_000, errors: 2 }),
    [/^bad: 0\.20\u202f% of the responses in the last 5 minutes are errors/],
  ],
  ['errors below 0.1 %', lastMinute({ responses: 1_000, errors: 1 }), []],
  [
    'a rejected policy',
    withPolicy({ ...policy, problem: 'the policy is rejected: 1:1: no' }),
    [/^bad: The policy is rejected: 1:1: no\. Policy aaa stays in force\.$/],
  ],
  [
    'no policy',
    withPolicy({ problem: 'ConfigMap kura-policy was deleted' }),
    [/^bad: ConfigMap kura-policy was deleted\. No policy is in force\.$/],
  ],
  [
    'a rejected next policy',
    withPolicy({ ...policy, next: { hash: 'b', problem: '1:1: no' } }),
    [/^warn: The next policy is rejected: 1:1: no\.$/],
  ],
  [
    'a dry run',
    withPolicy({ inForce: { hash: 'a', mode: 'dryRun', since: '2026-01-01T00:00:00.000Z', document: '' } }),
    [/^warn: The policy is in dry-run mode/],
  ],
  [
    'an Envoy that is behind',
    { eds: new Map([['kura-eds-a', { version: '1', assignment, streams: [{ ...stream, isCurrent: false }] }]]) },
    [/^warn: 1 Envoy has an old list of shards: envoy-a\.$/],
  ],
  ['an authz without an answer', { authz: new Map() }, [/^bad: 1 part does not answer: authz in kura-envoy-a\.$/]],
  ['no eds', { parts: [part('envoy', 'kura-envoy-a'), part('authz', 'kura-envoy-a')], eds: new Map() }, [/^bad: No Pod of eds runs\.$/]],
  ['an old list', { isListCurrent: false }, [/^bad: The Kubernetes API does not answer the console/]],
  [
    'a saved assignment',
    { assignment: { ...assignment, isStale: true } },
    [/^bad: The Kubernetes API has not answered since the start of eds/],
  ],
] as const satisfies readonly (readonly [string, Partial<StatusSources>, readonly RegExp[]])[]) {
  test(`the first line reports ${what}`, (t) => {
    const found = findings(changes);
    t.is(found.length, expected.length, found.join('\n'));
    for (const [at, pattern] of expected.entries()) t.regex(found[at] ?? '', pattern);
  });
}

test('the policy in force is what most authz enforce, since the first of them began', (t) => {
  const later = { inForce: { hash: 'aaa', mode: 'enforce', since: '2026-02-01T00:00:00.000Z', document: 'kind: X' } };
  const other = { inForce: { hash: 'bbb', mode: 'enforce', since: '2026-03-01T00:00:00.000Z', document: 'kind: Y' } };
  const authz = new Map([other, later, policy].map((report, at) => [`a${at}`, { version: '1', policy: report, counts: {} }]));
  const { policy: shown } = statusOf(sources({ authz }));
  t.deepEqual(shown?.inForce, [
    { hash: 'aaa', mode: 'enforce', since: new Date('2026-01-01'), authz: 2 },
    { hash: 'bbb', mode: 'enforce', since: new Date('2026-03-01'), authz: 1 },
  ]);
  t.is(shown?.document, 'kind: X');
});

test('refusals are listed by namespace, the most first', (t) => {
  const { refusals } = statusOf(
    sources(lastMinute({ 'refused forbidden nlp': 1, 'refused too-many-requests vision': 5, 'shadow deny nlp': 2 })),
  );
  t.deepEqual(refusals, [
    { namespace: 'vision', counts: { 'too-many-requests': 5 }, shadow: {} },
    { namespace: 'nlp', counts: { forbidden: 1 }, shadow: { deny: 2 } },
  ]);
});

test('text that is inserted into the page stays text', (t) => {
  t.is(html`<p>${'<script>"&\''}</p>${[html`<b>${1}</b>`]}`.text, '<p>&lt;script&gt;&quot;&amp;&#39;</p><b>1</b>');
  fc.assert(fc.property(fc.string(), (text) => !/[<>"']/.test(html`${text}`.text)));
});

test('keys are shared by weight, and an unhealthy shard has none', async (t) => {
  const shards = [candidate(0, { weight: 3 }), candidate(1), candidate(2, { health: 'UNHEALTHY' })];
  const cache = new KeySharesCache();
  const shares = await cache.sharesOf(shards, 'global');
  t.true(Math.abs((shares.get('kura-cache-0/shard-0') ?? 0) - 0.75) < 0.001);
  t.true(Math.abs((shares.get('kura-cache-1/shard-0') ?? 0) - 0.25) < 0.001);
  t.is(shares.get('kura-cache-2/shard-0'), undefined);
  const zones = await cache.sharesOf([candidate(0), candidate(1, { zone: 'b' })], 'zone');
  t.deepEqual([...zones.values()], [1, 1]);
  t.is((await cache.sharesOf([], 'global')).size, 0);
  t.is((await cache.sharesWithin(0, candidates(500), 'global')).size, 0, 'the page does not wait for a large table');
  t.is((await cache.sharesWithin(60_000, candidates(500), 'global')).size, 500);
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
