/** A server that limits, restarts, or stays away, and a command that waits. */
import { mkdir, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { FlowControl } from '../../services/cli/client/flow-control.ts';
import { RetryPlan } from '../../services/cli/client/retry-plan.ts';
import { startObjectServer } from '../support/object-server.ts';
import { type Kura, startKura } from './support/kura.ts';

const files = 800;

/** A folder `data` of 800 files. */
async function withFiles(t: ExecutionContext): Promise<Kura> {
  const kura = await startKura(t);
  await mkdir(path.join(kura.folder, 'data'));
  for (let index = 0; index < files; index++) await writeFile(path.join(kura.folder, 'data', `${index}.bin`), String(index));
  return kura;
}

function tooMany(response: ServerResponse): true {
  response.writeHead(429, { 'retry-after': '1' }).end('{"status":429,"code":"too-many-requests","detail":"the policy limits vision"}');
  return true;
}

test.serial('a server with a rate limit gets every file: no upload fails', async (t) => {
  const { server, run } = await withFiles(t);
  let tokens = 300;
  let refused = 0;
  const refill = setInterval(() => (tokens = 300), 1_000);
  t.teardown(() => clearInterval(refill));
  server.intercept = (request, response) => {
    if (tokens-- > 0) return false;
    refused += 1;
    request.resume();
    return tooMany(response);
  };
  const { status, stdout, stderr } = await run(['warm', 'data', 'vision/data', '--force', '--workers', '16']);
  t.is(status, 0, stderr);
  t.regex(stdout, /800 stored, 0 failures; /);
  t.is(server.objects.size, files);
  t.true(refused > 0);
  t.regex(stdout, new RegExp(`; ${refused} retries`));
});

test.serial('a server that restarts for a second gets every file: no upload fails', async (t) => {
  const { server, run } = await withFiles(t);
  let second: Awaited<ReturnType<typeof startObjectServer>> | undefined;
  let restart: Promise<void> | undefined;
  const startAgain = async (): Promise<void> => {
    await server.close();
    await delay(1_000);
    second = await startObjectServer({ port: Number(new URL(server.url).port) });
  };
  server.intercept = () => {
    if (server.objects.size >= 200) restart ??= startAgain();
    return false;
  };
  const { status, stdout, stderr } = await run(['warm', 'data', 'vision/data', '--force', '--workers', '16']);
  await restart;
  t.teardown(() => second?.close());
  t.is(status, 0, stderr + stdout);
  t.regex(stdout, /800 stored, 0 failures; .*; \d+ retries/);
  const stored = new Set([...server.objects.keys(), ...(second?.objects.keys() ?? [])]);
  t.is(stored.size, files);
});

test.serial('a server that stays away ends the run with what is done, how to resume, and exit status 2', async (t) => {
  const { server, run } = await withFiles(t);
  let closing: Promise<void> | undefined;
  server.intercept = () => {
    if (server.objects.size >= 200) closing ??= server.close();
    return false;
  };
  const { status, stdout, stderr } = await run(['warm', 'data', 'vision/data', '--force', '--workers', '16']);
  await closing;
  t.is(status, 2);
  t.regex(stdout, /\nwarm: interrupted: 2\d\d of 800 files: 0 already stored, 2\d\d stored, 0 failures; /);
  t.regex(stderr, /^Resume with: kura warm data vision\/data --force --workers 16\nkura: no response from http:\S+ for 10 s: .+\n$/);
});

test.serial('a command for one object waits too, and reports why', async (t) => {
  const { server, run } = await startKura(t);
  let tries = 0;
  server.intercept = (_request, response) => ++tries === 1 && tooMany(response);
  // Standard input is not read before the server accepts it, so it can wait.
  t.like(await run(['put', '-', 'vision/a'], { stdin: 'abc' }), {
    status: 0,
    stdout: 'stored vision/a, 3 B\n',
    stderr: 'kura put: 429: 1 of 1 workers, wait 1 s\n',
  });
  tries = 0;
  t.like(await run(['get', 'vision/a']), { status: 0, stdout: 'abc', stderr: 'kura get: 429: 1 of 1 workers, wait 1 s\n' });
  await server.close();
  const { status, stderr } = await run(['get', 'vision/a']);
  t.is(status, 2);
  t.regex(
    stderr,
    /^kura get: no response from \S+: .*ECONNREFUSED.*; retrying for 10 s\nkura: no response from \S+ for 10 s: .*ECONNREFUSED.*\n$/,
  );
});

test.serial('a body that breaks off is read again', async (t) => {
  const { server, folder, run } = await startKura(t);
  await mkdir(path.join(folder, 'data'));
  await writeFile(path.join(folder, 'data', 'a'), 'a'.repeat(1000));
  server.objects.set('vision/data/a', Buffer.from('a'.repeat(1000)));
  let broken = 0;
  server.intercept = (_request, response) => {
    if (++broken > 2) return false;
    response.writeHead(200, { 'content-length': 1000 });
    response.write('aaa', () => response.destroy());
    return true;
  };
  t.regex(
    (await run(['verify', 'data', 'vision/data'])).stdout,
    /1 identical \(100\.0 %\), 0 missing, 0 failures, 0 differences; .*; 2 retries/,
  );
});

test('requests that are refused together halve the workers once, and as many passes as workers add one', async (t) => {
  const flow = new FlowControl(16);
  const startedAt = performance.now();
  for (let request = 0; request < 16; request++) flow.throttle({ startedAt, retryAfterMs: 5_000 });
  t.like(flow.state, { workers: 8, maxWorkers: 16 });
  t.true(flow.state.waitMs > 0);
  for (let pass = 0; pass < 8; pass++) flow.accept();
  t.is(flow.state.workers, 9);
  for (let request = 0; request < 9; request++) flow.throttle({ startedAt: performance.now(), retryAfterMs: 1 });
  t.is(flow.state.workers, 1);
});

test('a worker that waits ends when the run is interrupted', async (t) => {
  const flow = new FlowControl(1);
  const interrupted = new AbortController();
  await flow.enter(interrupted.signal);
  const waiting = flow.enter(interrupted.signal);
  interrupted.abort();
  await t.throwsAsync(waiting, { name: 'AbortError' });
  flow.leave();
  flow.throttle({ startedAt: performance.now(), retryAfterMs: 60_000 });
  const again = new AbortController();
  const pausing = flow.enter(again.signal);
  again.abort();
  await t.throwsAsync(pausing, { name: 'AbortError' });
});

test('a request is throttled for at most ten minutes, fails for at most 10 s, and gets four 503', (t) => {
  const throttled = new RetryPlan();
  const response = { statusCode: 429, headers: { 'retry-after': '60' } };
  t.deepEqual(throttled.afterResponse(response, 0), { kind: 'throttled', retryAfterMs: 60_000 });
  t.is(throttled.afterResponse(response, 530_000).kind, 'throttled');
  t.is(throttled.afterResponse(response, 541_000).kind, 'done');
  t.is(new RetryPlan().afterResponse({ statusCode: 429, headers: {} }, 0).kind, 'throttled');

  const failing = new RetryPlan();
  t.true((failing.afterFault(0) as number) < 1_000);
  t.true((failing.afterFault(9_999) as number) <= 1_000);
  t.is(failing.afterFault(10_000), undefined);

  const unavailable = new RetryPlan();
  const kinds = [1, 2, 3, 4].map((now) => unavailable.afterResponse({ statusCode: 503, headers: {} }, now).kind);
  t.deepEqual(kinds, ['retry', 'retry', 'retry', 'done']);
});
