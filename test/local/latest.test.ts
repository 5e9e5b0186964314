import test from 'ava';
import { publishLatest } from '../../services/local/latest.ts';

const quiet = { follow: () => undefined };

test('the newest value is published, one attempt at a time, and older values may be skipped', async (t) => {
  const published: number[] = [];
  let concurrent = 0;
  const latest = publishLatest<number>({
    what: 'the number',
    publish: async (value) => {
      t.is(++concurrent, 1);
      await new Promise(setImmediate);
      published.push(value);
      concurrent--;
    },
    console: { ...quiet, print: () => t.fail() },
    signal: new AbortController().signal,
  });
  for (const value of [1, 2, 3]) latest.set(value);
  await latest.settled();
  t.is(published.at(-1), 3);
  t.true(published.length <= 2);
  latest.set(4);
  await latest.settled();
  t.is(published.at(-1), 4);
});

test('a failure is reported once and retried until it succeeds', async (t) => {
  const printed: string[] = [];
  let attempts = 0;
  const latest = publishLatest<string>({
    what: 'the endpoint',
    publish: async () => {
      if (++attempts < 3) throw new Error('connection refused\nat somewhere');
    },
    console: { ...quiet, print: (line) => printed.push(line) },
    signal: new AbortController().signal,
  });
  latest.set('x');
  await latest.settled();
  t.is(attempts, 3);
  t.deepEqual(printed, ['cannot publish the endpoint: connection refused; retrying']);
});

test('publishing ends when the system stops', async (t) => {
  const stopping = new AbortController();
  const latest = publishLatest<string>({
    what: 'x',
    publish: () => Promise.reject(new Error('never')),
    console: { ...quiet, print: () => stopping.abort() },
    signal: stopping.signal,
  });
  latest.set('x');
  await t.notThrowsAsync(latest.settled());
});
