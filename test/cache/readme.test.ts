import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { settingPrefix, settings } from '../../services/cache/config.ts';
import { problems } from '../../services/cache/http/problems.ts';
import { settingName } from '../../services/shared/environment.ts';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { startTestShard } from './support/shard.ts';

const readme = readFileSync(path.resolve(import.meta.dirname, '../../services/cache/README.md'), 'utf8');

test('the README lists every setting with its default and meaning, and no other', (t) => {
  for (const [field, { fallback, doc }] of Object.entries(settings)) {
    t.true(readme.includes(`| \`${settingName(settingPrefix, field)}\` | ${fallback ?? '–'} | ${doc} |`), field);
  }
  const known = new Set(Object.keys(settings).map((field) => settingName(settingPrefix, field)));
  for (const [name] of readme.matchAll(/\bKURA_CACHE_[A-Z_]*[A-Z]\b/g)) t.true(known.has(name), name);
});

test('the README lists every problem code with its status, and no other', (t) => {
  for (const [code, { status, detail }] of Object.entries(problems))
    t.true(readme.includes(`| \`${code}\` | ${status} | ${detail} |`), code);
});

test('the README lists every metric of the shard, and no other', async (t) => {
  const shard = await startTestShard(t);
  const text = await (await fetch(`${shard.metricsUrl}/metrics`)).text();
  const served = new Set([...text.matchAll(/^# TYPE (kura_cache_\w+)/gm)].map((match) => match[1]));
  const listed = new Set([...readme.matchAll(/^\| `(kura_cache_\w+)/gm)].map((match) => match[1]));
  t.deepEqual([...listed].sort(), [...served].sort());
});

test('every metric has a value once there was a request', async (t) => {
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
