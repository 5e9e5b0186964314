import test from 'ava';
import { publishLatest } from '../../services/local/latest.ts';

const quiet = { follow: () => undefined };

test('the newest value arrives, one attempt at a time, and those in between may be left out', async (t) => {
  const arrived: number[] = [];
  let underWay = 0;
  const latest = publishLatest<number>({
    what: 'the number',
    publish: async (value) => {
      t.is(++underWay, 1);
      await new Promise(setImmediate);
      arrived.push(value);
      underWay--;
    },
    console: { ...quiet, say: () => t.fail() },
    signal: new AbortController().signal,
  });
  for (const value of [1, 2, 3]) latest.set(value);
  await latest.settled();
  t.is(arrived.at(-1), 3);
  t.true(arrived.length <= 2);
  latest.set(4);
  await latest.settled();
  t.is(arrived.at(-1), 4);
});

test('a failure is told once and tried again until it succeeds', async (t) => {
  const said: string[] = [];
  let attempts = 0;
  const latest = publishLatest<string>({
    what: 'the endpoint',
    publish: async () => {
      if (++attempts < 3) throw new Error('connection refused\nat somewhere');
    },
    console: { ...quiet, say: (line) => said.push(line) },
    signal: new AbortController().signal,
  });
  latest.set('x');
  await latest.settled();
  t.is(attempts, 3);
  t.deepEqual(said, ['cannot publish the endpoint yet: connection refused']);
});

test('it ends when the system stops', async (t) => {
  const stopping = new AbortController();
  const latest = publishLatest<string>({
    what: 'x',
    publish: () => Promise.reject(new Error('never')),
    console: { ...quiet, say: () => stopping.abort() },
    signal: stopping.signal,
  });
  latest.set('x');
  await t.notThrowsAsync(latest.settled());
});
