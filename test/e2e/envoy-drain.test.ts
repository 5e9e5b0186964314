/** What the preStop hook of authz's container does to the Envoy beside it (k8s/base/envoy.yaml). */
import { Agent, request } from 'node:http';
import anyTest, { type TestFn } from 'ava';
import { call } from '../support/http.ts';
import { readMetric } from '../support/metrics.ts';
import { runProgram } from '../support/program.ts';
import { waitFor } from '../support/wait.ts';
import { startEnvoyPod } from './support/envoy-pod.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({ args: ['--shards', '1'] });
});
test.after.always(() => system?.stop());

async function drain(...args: readonly string[]): Promise<{ status: number | null; stderr: string }> {
  const { status, stderr } = await runProgram('services/envoy-drain/main.ts', args);
  return { status, stderr };
}

test.serial('a drain asks every connection to close, fails no request, and ends when none is left', async (t) => {
  const { url, envoyAdminUrl, envoyMetricsUrl } = await system.local();
  const token = await system.token('vision/trainer');
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  t.teardown(() => agent.destroy());
  const statuses = new Set<number>();
  const outcome = { failures: 0, closes: 0, answers: 0 };
  const ask = (): Promise<void> =>
    new Promise((resolve) => {
      const outgoing = request(`${url}/objects/vision/x`, { agent, headers: { authorization: `Bearer ${token}` } }, (response) => {
        statuses.add(response.statusCode as number);
        outcome.answers += 1;
        if (response.headers.connection === 'close') outcome.closes += 1;
        response.resume().on('end', resolve);
      });
      outgoing.on('error', () => {
        outcome.failures += 1;
        resolve();
      });
      outgoing.end();
    });
  // Until the first one is asked to close: on a cluster the next connection goes to another Envoy.
  const worker = async (): Promise<void> => {
    while (outcome.closes === 0) await ask();
  };
  const load = Promise.all(Array.from({ length: 8 }, worker));
  await waitFor('traffic flows', () => outcome.answers > 100);
  const drained = drain(envoyAdminUrl, '60');
  await load;
  agent.destroy();
  t.deepEqual(await drained, { status: 0, stderr: '' });
  t.is(outcome.failures, 0);
  t.true(outcome.closes > 0);
  t.deepEqual([...statuses], [404]);
  t.is((await call(envoyAdminUrl, { path: '/ready' })).status, 503);
  t.is(await readMetric(envoyMetricsUrl, 'envoy_server_live'), 0, 'the alert KuraEnvoyWedged sees it');
  for (const path of ['/quitquitquit', '/reset_counters', '/runtime_modify?a=b', '/heapprofiler?enable=y'])
    t.is((await call(envoyAdminUrl, { method: 'POST', path })).status, 403, path);
});

test.serial('a drain that takes too long, and an Envoy that does not answer, are told with status 1', async (t) => {
  const other = await startLocalSystem({ args: ['--shards', '1'] });
  t.teardown(() => other.stop());
  const { url, envoyAdminUrl } = await other.local();
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  // Envoy would close the connection of a request without a token.
  const headers = { authorization: `Bearer ${await other.token('vision/trainer')}` };
  await new Promise((resolve, reject) => {
    request(`${url}/objects/vision/x`, { agent, headers }, (response) => response.resume().on('end', resolve))
      .on('error', reject)
      .end();
  });
  const { status, stderr } = await drain(envoyAdminUrl, '1');
  t.is(status, 1);
  t.regex(stderr, /^drain: 1 connections are still open after 1 s/);
  t.like(await drain('http://127.0.0.1:1', '1'), { status: 1 });
});

test.serial('the hook of an authz that the kubelet restarts drains nothing, and the hook of a Pod that ends drains', async (t) => {
  const { authz } = await system.local();
  t.is(await (await fetch(new URL('/ending', authz.metricsUrl))).text(), 'no\n', 'an authz that does not know its Pod');
  const pod = await startEnvoyPod(t, system);
  t.deepEqual(await pod.runHook(), { status: 0, stderr: '' });
  t.true(await pod.isReady());

  pod.authz.child.kill('SIGSTOP');
  const hung = await pod.runHook();
  pod.authz.child.kill('SIGCONT');
  t.is(hung.status, 1);
  t.regex(hung.stderr, /^drain: Envoy is not drained, because authz at .*\/ending does not report that the Pod ends: .* took over 2000 ms/);
  await waitFor('the Pod is ready', () => pod.isReady());

  const ended = pod.terminate();
  await waitFor('Envoy drains', async () => !(await pod.isReady()));
  t.deepEqual(await ended, { status: 0, stderr: '' });
});
