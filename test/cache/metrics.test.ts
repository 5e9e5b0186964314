import test from 'ava';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { startTestShard } from './support/shard.ts';

test('every metric has a value after a request', async (t) => {
  const shard = await startTestShard(t);
  const headers = { 'content-length': 1, ...callerHeaders({ namespace: 'n', maxShare: 0.5 }) };
  t.is((await call(shard.url, { method: 'PUT', path: '/objects/n/a', body: 'x', headers })).status, 201);
  const text = await (await fetch(`${shard.metricsUrl}/metrics`)).text();
  const types = [...text.matchAll(/^# TYPE (kura_cache_\w+) (\w+)/gm)];
  t.true(types.length > 30);
  for (const [, name, type] of types) {
    const sample = new RegExp(`^${name}${type === 'histogram' ? '_bucket' : ''}[{ ]`, 'm');
    t.regex(text, sample, name);
  }
});
