import test from 'ava';
import { audited, createAudit } from '../../services/authz/audit.ts';
import type { Decision, Question } from '../../services/authz/decision.ts';
import type { Logger } from '../../services/shared/log.ts';

const identity = { namespace: 'vision', serviceAccount: 'trainer', pod: { name: 'p', uid: 'u' } };
const allow: Decision = {
  kind: 'allow',
  identity,
  rule: 'own',
  cached: true,
  caller: 'vision/trainer/p',
  terms: 'max-object-bytes=1; exp=1790000000',
  wouldDeny: false,
  difference: undefined,
  grant: undefined,
  countsBytes: false,
};
const deny: Decision = { kind: 'forbidden', identity, rule: 'freeze', reason: 'no', detail: 'no', difference: undefined };

interface Line {
  readonly audit?: Record<string, unknown>;
  readonly unwritten?: number;
}

function setting(allowSample: number) {
  const lines: Line[] = [];
  const world = { now: 0 };
  const write = (line: Line): number => lines.push(line);
  const audit = createAudit({ log: { info: write, warn: write } as unknown as Logger, allowSample, now: () => world.now });
  const ask = (decision: Decision, asked: Partial<Question> = {}): void =>
    audit(
      { method: 'GET', target: '/objects/vision/x', token: 'the token', contentLength: undefined, receivedAt: undefined, ...asked },
      decision,
    );
  return { lines, world, ask };
}

test('a denial contains identity, verb, key, rule and reason; an allow also contains whether the identity was cached', (t) => {
  const { lines, ask } = setting(1);
  ask(deny, { method: 'PUT' });
  ask(allow);
  t.deepEqual(
    lines.map(({ audit }) => audit),
    [
      { decision: 'forbidden', verb: 'PUT', key: 'vision/x', who: 'vision/trainer', rule: 'freeze', reason: 'no' },
      { decision: 'allow', verb: 'GET', key: 'vision/x', who: 'vision/trainer', rule: 'own', cached: true },
    ],
  );
});

test('every n-th allow is logged, or none for 0; every allow that a dry run or the next policy would deny is logged', (t) => {
  const sampled = setting(10);
  for (let index = 0; index < 100; index++) sampled.ask(allow);
  t.is(sampled.lines.length, 10);
  const none = setting(0);
  none.ask(allow);
  t.is(none.lines.length, 0);
  none.ask({ ...allow, wouldDeny: true });
  none.ask({ ...allow, difference: { next: 'deny', nextRule: 'later' } });
  t.deepEqual(
    none.lines.map(({ audit }) => [audit?.decision, audit?.nextRule]),
    [
      ['would-deny', undefined],
      ['allow', 'later'],
    ],
  );
});

test('200 denials a second are logged, and the rest is reported as a number', (t) => {
  const { lines, world, ask } = setting(0);
  for (let index = 0; index < 1_000; index++) ask(deny);
  t.is(lines.length, 200);
  world.now = 1_000;
  ask(deny);
  t.deepEqual([lines[200]?.unwritten, lines.length], [800, 202]);
});

test('tokens in the URL and the query are removed, and a line stays short', (t) => {
  const { lines, ask } = setting(0);
  const secret = 'eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsia3VyYSJdfQ.c2lnbmF0dXJl';
  ask(deny, { target: `/objects/vision/${secret}/x?token=${secret}` });
  ask(deny, { target: `/objects/${'x'.repeat(100_000)}`, method: 'M'.repeat(1_000) });
  t.is(lines[0]?.audit?.key, 'vision/<token>/x');
  t.true(JSON.stringify(lines[1]).length < 1_500);
  t.false(JSON.stringify(lines).includes('eyJ') || JSON.stringify(lines).includes('the token'));
});

test('an audited decision is returned unchanged, after one call of the audit with its question', async (t) => {
  const calls: [Question, Decision][] = [];
  const question: Question = {
    method: 'GET',
    target: '/objects/vision/x',
    token: 'the token',
    contentLength: undefined,
    receivedAt: undefined,
  };
  const decide = audited(
    async () => deny,
    (asked, decision) => calls.push([asked, decision]),
  );
  t.is(await decide(question), deny);
  t.deepEqual(calls, [[question, deny]]);
});

test('a line contains the ids of its request, and each allow of a sampled trace is a line', (t) => {
  const { lines, ask } = setting(0);
  const trace = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', isSampled: true };
  const requestId = '8c934867-99fc-9089-9784-54d52489f1b0';
  ask(allow, { requestId, trace: { ...trace, isSampled: false } });
  t.is(lines.length, 0);
  ask(deny, { requestId, trace: { ...trace, isSampled: false } });
  ask(allow, { requestId, trace });
  for (const { audit } of lines) t.like(audit, { requestId, traceId: trace.traceId });
  t.is(lines.length, 2);
});

test('a flood of sampled allows is 200 lines a second, and hides no denial', (t) => {
  const { lines, ask } = setting(0);
  const trace = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', isSampled: true };
  for (let index = 0; index < 1000; index++) ask(allow, { trace });
  t.is(lines.length, 200);
  ask(deny);
  t.is(lines.length, 201);
});

test('each start of a job and each removal of a prefix is a line with its prefix, up to 200 a second', (t) => {
  const { lines, world, ask } = setting(0);
  const always: Decision = { ...allow, isLoggedAlways: true };
  ask(always, { method: 'DELETE', target: '/datasets/vision/sets/?x=1' });
  ask({ ...always, origin: 'nfs' }, { method: 'POST', target: '/prefetch/vision/' });
  ask({ ...allow, isLoggedAlways: false }, { method: 'GET', target: '/datasets/vision/' });
  ask(deny, { method: 'DELETE', target: '/datasets/nlp/' });
  t.deepEqual(
    lines.map(({ audit }) => audit),
    [
      { decision: 'allow', verb: 'DELETE', service: 'datasets', prefix: 'vision/sets/', who: 'vision/trainer', rule: 'own', cached: true },
      {
        decision: 'allow',
        verb: 'POST',
        service: 'prefetch',
        prefix: 'vision/',
        who: 'vision/trainer',
        rule: 'own',
        cached: true,
        origin: 'nfs',
      },
      { decision: 'forbidden', verb: 'DELETE', service: 'datasets', prefix: 'nlp/', who: 'vision/trainer', rule: 'freeze', reason: 'no' },
    ],
  );
  world.now = 1_000;
  for (let index = 0; index < 300; index++) ask(always, { method: 'DELETE', target: '/datasets/vision/' });
  t.is(lines.length, 203);
  world.now = 2_000;
  ask(always, { method: 'DELETE', target: '/datasets/vision/' });
  t.is(lines[203]?.unwritten, 100);
});

test('the key of a line is the same under each path of objects', (t) => {
  const { lines, ask } = setting(1);
  for (const route of ['objects', 'direct', 'through']) ask(allow, { target: `/${route}/vision/x` });
  t.deepEqual([...new Set(lines.map(({ audit }) => audit?.key))], ['vision/x']);
});
