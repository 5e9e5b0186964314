/** Floods of callers without a good token: an ordinary workload at the same Envoy has no failed request. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { readMetric } from '../support/metrics.ts';
import { waitFor } from '../support/wait.ts';
import type { Flood, FloodResult } from './support/flood.ts';
import { type LocalSystem, root, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
const maxFloodMs = 5_000;
/** 40,000 take about 15 s on two idle cores. */
const maxForgeryMs = 180_000;
/** A usual timeout of HTTP clients. */
const clientTimeoutMs = 10_000;
const object = { as: 'vision/trainer', path: '/objects/vision/ordinary' };
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({ args: ['--shards', '1'] });
  await system.call({ ...object, method: 'PUT', body: 'x'.repeat(10_000) });
});
test.after.always(() => system?.stop());

test.serial('800 connections with 31 KB of Authorization: Envoy answers all of them', async (t) => {
  const { statuses } = await floodBeside(t, { connections: 800, kind: 'long', bytes: 31_000, refusals: 'in Envoy' });
  t.deepEqual(Object.keys(statuses), ['431']);
});

test.serial('800 connections with 8 KB of Authorization: Envoy answers all of them', async (t) => {
  const { statuses } = await floodBeside(t, { connections: 800, kind: 'long', bytes: 8_000, refusals: 'in Envoy' });
  t.deepEqual(Object.keys(statuses), ['401']);
});

test.serial('800 connections without Authorization: Envoy answers all of them', async (t) => {
  const { statuses } = await floodBeside(t, { connections: 800, kind: 'none', refusals: 'in Envoy' });
  t.deepEqual(Object.keys(statuses), ['401']);
});

test.serial('one token in up to 20,000 spellings: Envoy answers all of them', async (t) => {
  const token = await system.token('vision/trainer');
  const { statuses } = await floodBeside(t, { connections: 100, kind: 'spellings', token, maxRequests: 20_000, refusals: 'in Envoy' });
  t.deepEqual(Object.keys(statuses), ['401']);
});

test.serial('2,000 silent connections: Envoy closes them, and others connect meanwhile', async (t) => {
  const { closed } = await floodBeside(t, { connections: 2_000, kind: 'silent', maxMs: 60_000, refusals: 'in Envoy' });
  t.is(closed, 2_000);
});

test.serial('40,000 forged tokens: authz refuses them', async (t) => {
  t.timeout(maxForgeryMs);
  const token = await system.token('vision/trainer');
  // As many at a time as authz refuses in less than the second that Envoy waits, on a slow machine too.
  const flood = { connections: 50, pipeline: 200, kind: 'forgeries', token, maxRequests: 40_000, maxMs: maxForgeryMs } as const;
  const { statuses } = await floodBeside(t, { ...flood, refusals: 'in authz' });
  t.is(
    Object.values(statuses).reduce((sum, count) => sum + count, 0),
    40_000,
  );
  t.true((statuses['401'] ?? 0) > 0);
});

type Attack = Omit<Flood, 'port' | 'maxRequests' | 'maxMs'> & Partial<Flood> & { refusals: 'in Envoy' | 'in authz' };

/** Runs the flood and an ordinary workload until the flood ends. Asserts that the workload has no failed request. */
async function floodBeside(t: ExecutionContext, { refusals, ...attack }: Attack): Promise<FloodResult> {
  const { url, authz } = await system.local();
  const refused = () => readMetric(authz.metricsUrl, 'kura_authz_checks_total', 'decision="unauthenticated"');
  const before = await refused();
  const flood: Flood = { port: Number(new URL(url).port), maxRequests: Number.MAX_SAFE_INTEGER, maxMs: maxFloodMs, ...attack };
  const running = runFlood(flood);
  const workload = await runWorkload(running);
  const result = await running;
  const p99 = workload.tookMs.sort((a, b) => a - b)[Math.floor(workload.tookMs.length * 0.99)];
  t.log(`flood: ${JSON.stringify(result)}; workload: ${workload.tookMs.length} requests, p99 ${Math.round(p99 ?? 0)} ms`);
  t.deepEqual(workload.failures, []);
  t.true(workload.tookMs.length > 0);
  const seen = (await refused()) - before;
  if (refusals === 'in Envoy') t.is(seen, 0, 'authz saw requests of the flood');
  else t.true(seen > 0);
  await waitFor('the next flood finds no rest of this one', async () => (await system.call(object)).status === 200);
  return result;
}

/** Sends GETs of a stored object over new connections, one after the other, until `end`. */
async function runWorkload(end: Promise<unknown>): Promise<{ tookMs: number[]; failures: string[] }> {
  const tookMs: number[] = [];
  const failures: string[] = [];
  let isOver = false;
  const ended = end.finally(() => (isOver = true));
  while (!isOver) {
    const timeout = delay(clientTimeoutMs, undefined, { ref: false }).then(() => 'timeout' as const);
    const answer = await Promise.race([system.call(object), timeout]).catch((error: Error) => error.message);
    if (typeof answer === 'string') failures.push(answer);
    else if (answer.status !== 200 || !answer.complete) failures.push(`${answer.status} ${answer.body}`);
    else tookMs.push(answer.tookMs);
    await Promise.race([delay(50), ended]);
  }
  return { tookMs, failures };
}

async function runFlood(flood: Flood): Promise<FloodResult> {
  const program = path.join(root, 'test', 'e2e', 'support', 'flood.ts');
  const words = ['--pdeathsig', 'KILL', '--', 'nice', '-n', '10', process.execPath, program, JSON.stringify(flood)];
  const child = spawn('setpriv', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  await once(child, 'close');
  return JSON.parse(output) as FloodResult;
}
