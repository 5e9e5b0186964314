import test from 'ava';
import { Registry } from 'prom-client';
import type { Decision } from '../../services/authz/decision.ts';
import { Metrics } from '../../services/authz/metrics.ts';

const question = { method: 'GET', target: '/objects/vision/x', token: 'a token', contentLength: undefined, receivedAt: undefined };
const forbidden = (namespace: string, next?: 'allow'): Decision => ({
  kind: 'forbidden',
  reason: 'no',
  detail: 'no',
  identity: { namespace, serviceAccount: 'trainer' },
  rule: 'default',
  difference: next && { next, nextRule: 'later' },
});

function setting() {
  const registry = new Registry();
  const policy = { hash: undefined, accepted: 0, rejected: 0, isWatching: true };
  const metrics = new Metrics(registry, {
    reviewsInFlight: () => 0,
    rememberedTokens: () => 0,
    isPodWatchHealthy: () => true,
    policy,
    origins: { hash: undefined, isWatching: true },
  });
  let decision: Decision = { kind: 'no-policy' };
  const decide = metrics.countChecks(async () => decision);
  return {
    count: async (counted: Decision) => {
      decision = counted;
      await decide(question);
    },
    series: async (name: string) =>
      (await registry.metrics()).split('\n').filter((line) => line.startsWith(name) && !line.startsWith(`${name}_`)),
  };
}

test('a check is counted under the namespace of its workload, with 413 and the difference of the next policy', async (t) => {
  const { count, series } = setting();
  await count(forbidden('vision', 'allow'));
  await count(forbidden('vision'));
  await count({ kind: 'too-large', identity: { namespace: 'nlp', serviceAccount: 'trainer' }, maxObjectBytes: 1 });
  await count({ kind: 'unauthenticated', reason: 'no' });
  t.deepEqual(await series('kura_authz_checks_total'), [
    'kura_authz_checks_total{decision="forbidden",reason="no-rule",namespace="vision"} 2',
    'kura_authz_checks_total{decision="too-large",reason="request",namespace="nlp"} 1',
    'kura_authz_checks_total{decision="unauthenticated",reason="bad-token",namespace="(unknown)"} 1',
  ]);
  t.deepEqual(await series('kura_authz_shadow_differences_total'), [
    'kura_authz_shadow_differences_total{next="allow",namespace="vision"} 1',
  ]);
});

test('the first 100 namespaces have series under their names, and all others are one sum', async (t) => {
  const { count, series } = setting();
  for (let index = 0; index < 300; index += 1) await count(forbidden(`team-${index}`, 'allow'));
  await count(forbidden('team-99'));
  for (const name of ['kura_authz_checks_total', 'kura_authz_shadow_differences_total']) {
    const lines = await series(name);
    t.is(lines.length, 101);
    t.regex(lines.at(-1) as string, /namespace="\(others\)"\} 200$/);
  }
  t.regex((await series('kura_authz_checks_total'))[99] as string, /namespace="team-99"\} 2$/);
});
