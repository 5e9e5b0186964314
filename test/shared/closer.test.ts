import test from 'ava';
import { Closer, startWithCloser } from '../../services/shared/closer.ts';

/** Adds parts that note when they are closed; those in `broken` reject. */
function addParts(closer: Closer, names: readonly string[], { broken = [] }: { broken?: readonly string[] } = {}): string[] {
  const closed: string[] = [];
  for (const name of names) {
    closer.add(name, async () => {
      closed.push(`${name} begins`);
      await new Promise((resolve) => setImmediate(resolve));
      closed.push(name);
      if (broken.includes(name)) throw new Error(`${name} is stuck`);
    });
  }
  return closed;
}

test('parts are closed one after the other in reverse order', async (t) => {
  const closer = new Closer();
  const closed = addParts(closer, ['a', 'b', 'c']);
  await closer.close();
  t.deepEqual(closed, ['c begins', 'c', 'b begins', 'b', 'a begins', 'a']);
});

test('all parts are closed although some fail, and all their errors are collected', async (t) => {
  const closer = new Closer();
  const closed = addParts(closer, ['a', 'b'], { broken: ['b'] });
  closer.add('c', () => {
    throw new Error('c is stuck');
  });
  const error = await t.throwsAsync(closer.close(), { instanceOf: AggregateError, message: 'cannot close c, b' });
  t.deepEqual(
    error.errors.map(({ message }) => message),
    ['c is stuck', 'b is stuck'],
  );
  t.true(closed.includes('a'));
});

test('a second close does nothing', async (t) => {
  const closer = new Closer();
  const closed = addParts(closer, ['a']);
  await Promise.all([closer.close(), closer.close()]);
  t.deepEqual(closed, ['a begins', 'a']);
});

test('a failed start closes what it opened and rejects with its own error', async (t) => {
  let closed: string[] = [];
  const failure = new Error('the port is taken');
  const error = await t.throwsAsync(
    startWithCloser(async (closer) => {
      closed = addParts(closer, ['a', 'b']);
      throw failure;
    }),
  );
  t.is(error, failure);
  t.deepEqual(closed, ['b begins', 'b', 'a begins', 'a']);
});

test('a failed start also reports the errors of closing', async (t) => {
  const failure = new Error('the port is taken');
  const error = await t.throwsAsync(
    startWithCloser(async (closer) => {
      addParts(closer, ['a', 'b'], { broken: ['b'] });
      throw failure;
    }),
    { instanceOf: AggregateError, message: 'the port is taken; then cannot close b' },
  );
  t.is(error.cause, failure);
  t.deepEqual(
    error.errors.map(({ message }) => message),
    ['the port is taken', 'b is stuck'],
  );
});

test('a successful start closes nothing until it is closed', async (t) => {
  let closed: string[] = [];
  const { listening, close } = await startWithCloser(async (closer) => {
    closed = addParts(closer, ['a']);
    return { grpc: '127.0.0.1:1' };
  });
  t.deepEqual([listening, closed], [{ grpc: '127.0.0.1:1' }, []]);
  await close();
  t.deepEqual(closed, ['a begins', 'a']);
});
