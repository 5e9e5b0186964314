import test, { type ExecutionContext } from 'ava';
import { type ChildEnd, type ChildReady, describeEnd, SupervisedChild, type SuperviseOptions } from '../../services/shared/supervise.ts';
import { waitFor } from '../support/wait.ts';

const serves = "process.send({ kind: 'listening', listening: { port: String(process.pid) } }); setInterval(() => {}, 1000);";

/** A supervised Node process that runs `code`, and what was reported about it. */
function supervise(t: ExecutionContext, code: string | (() => string), options: Partial<SuperviseOptions> = {}) {
  const readies: ChildReady[] = [];
  const ends: ChildEnd[] = [];
  const faults: string[] = [];
  const child = new SupervisedChild({
    name: 'it',
    command: () => ({ file: process.execPath, args: ['-e', typeof code === 'string' ? code : code()], env: { PATH: process.env.PATH } }),
    output: 'inherit',
    hasOwnGroup: false,
    backoff: { firstMs: 1, maxMs: 4, stableMs: 60_000 },
    maxStartMs: 30_000,
    maxStopMs: 10_000,
    onReady: (ready) => readies.push(ready),
    onEnd: (end) => ends.push(end),
    onFault: ({ message }) => faults.push(message),
    ...options,
  });
  t.teardown(() => child.stop());
  return { child, readies, ends, faults };
}

test('the start resolves when the child reports its addresses, and a killed child starts again with another pid', async (t) => {
  const { child, readies, ends } = supervise(t, serves);
  await child.start({ mustServe: true });
  t.deepEqual(
    readies.map(({ isRestart }) => isRestart),
    [false],
  );
  t.is(readies[0]?.listening.port, String(child.pid));
  process.kill(child.pid as number, 'SIGKILL');
  await waitFor('it is back', () => readies.length === 2);
  t.deepEqual(ends, [{ status: null, signal: 'SIGKILL', backoffMs: 1 }]);
  t.is(describeEnd(ends[0] as ChildEnd), 'was killed by SIGKILL');
  t.true(readies[1]?.isRestart);
  t.not(readies[1]?.pid, readies[0]?.pid);
});

test('each consecutive end doubles the back-off up to its maximum', async (t) => {
  const { child, ends, faults } = supervise(t, 'process.exit(3)');
  await child.start({ mustServe: false });
  await waitFor('four ends', () => ends.length >= 4);
  await child.stop();
  t.deepEqual(
    ends.slice(0, 4).map(({ status, backoffMs }) => [status, backoffMs]),
    [
      [3, 1],
      [3, 2],
      [3, 4],
      [3, 4],
    ],
  );
  t.is(faults[0], 'it ended with status 3 before it was ready');
});

test('a child that served long enough resets the back-off', async (t) => {
  const { child, readies, ends } = supervise(t, serves, { backoff: { firstMs: 1, maxMs: 4, stableMs: 0 } });
  await child.start({ mustServe: true });
  for (let round = 1; round <= 3; round += 1) {
    process.kill(child.pid as number, 'SIGKILL');
    await waitFor('it is back', () => readies.length === round + 1);
  }
  t.deepEqual(
    ends.map(({ backoffMs }) => backoffMs),
    [1, 1, 1],
  );
});

test('a first start that must serve rejects when the child ends, is too slow or is stopped, and leaves no process', async (t) => {
  const ended = supervise(t, 'process.exit(3)');
  await t.throwsAsync(ended.child.start({ mustServe: true }), { message: 'it ended with status 3 before it was ready' });
  const slow = supervise(t, 'setInterval(() => {}, 1000)', { maxStartMs: 50 });
  await t.throwsAsync(slow.child.start({ mustServe: true }), { message: 'it was not ready within 0.05 s' });
  const stopping = new AbortController();
  const stopped = supervise(t, 'setInterval(() => {}, 1000)', { signal: stopping.signal });
  const start = stopped.child.start({ mustServe: true });
  stopping.abort();
  await t.throwsAsync(start, { message: 'it was stopped while it started' });
  for (const { child, ends } of [ended, slow, stopped]) {
    if (child.pid !== undefined) t.throws(() => process.kill(child.pid as number, 0), { code: 'ESRCH' });
    t.deepEqual(ends, []);
  }
});

test('a command that cannot start is a fault and is retried', async (t) => {
  const { child, ends, faults } = supervise(t, serves, { command: () => ({ file: 'true', args: [], env: { PATH: '/nowhere' } }) });
  await child.start({ mustServe: false });
  await waitFor('two ends', () => ends.length >= 2);
  t.regex(faults.join('\n'), /cannot start setpriv \(util-linux\): .*ENOENT/);
});

test('a probe detects that a child without messages serves', async (t) => {
  const answers = [undefined, undefined, { admin: '127.0.0.1:1' }];
  const { child, readies } = supervise(t, 'setInterval(() => {}, 1000)', { probe: async () => answers.shift() });
  await child.start({ mustServe: true });
  t.deepEqual(readies[0]?.listening, { admin: '127.0.0.1:1' });
  t.is(answers.length, 0);
});

test('a stop ends the child permanently, and kills one that ignores SIGTERM', async (t) => {
  const polite = supervise(t, serves);
  const stubborn = supervise(t, `process.on('SIGTERM', () => {}); ${serves}`, { maxStopMs: 50 });
  for (const { child, ends } of [polite, stubborn]) {
    await child.start({ mustServe: true });
    const pid = child.pid as number;
    await child.stop();
    t.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
    t.deepEqual(ends, []);
  }
});
