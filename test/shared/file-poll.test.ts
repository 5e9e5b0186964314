import test from 'ava';
import { FilePoll } from '../../services/shared/file-poll.ts';
import { waitFor } from '../support/wait.ts';

test('it reads repeatedly, one read at a time, until it is closed', async (t) => {
  let reads = 0;
  let open = 0;
  const poll = new FilePoll({
    intervalMs: 1,
    reread: async () => {
      open += 1;
      t.is(open, 1);
      await new Promise((resolve) => setImmediate(resolve));
      open -= 1;
      reads += 1;
    },
    onFault: (error) => t.fail(error.message),
  });
  await waitFor('some reads', () => reads >= 3);
  poll.close();
  await waitFor('the last read has ended', () => open === 0);
  const atEnd = reads;
  let others = 0;
  const later = new FilePoll({
    intervalMs: 1,
    reread: async () => {
      others += 1;
    },
    onFault: () => undefined,
  });
  await waitFor('another poll has read more often', () => others >= 5);
  later.close();
  t.is(reads, atEnd);
});

test('a fault is reported once, a different one too, and the first again after a success', async (t) => {
  const outcomes = ['gone', 'gone', 'damaged', undefined, 'gone'];
  const faults: string[] = [];
  const poll = new FilePoll({
    intervalMs: 1,
    reread: async () => {
      const message = outcomes.shift();
      if (message !== undefined) throw new Error(message);
    },
    onFault: ({ message }) => faults.push(message),
  });
  t.teardown(() => poll.close());
  await waitFor('three faults', () => faults.length === 3);
  t.deepEqual(faults, ['gone', 'damaged', 'gone']);
});

test('a read that fails after the close is not reported', async (t) => {
  const read = Promise.withResolvers<void>();
  let hasBegun = false;
  const faults: Error[] = [];
  const poll = new FilePoll({
    intervalMs: 1,
    reread: () => {
      hasBegun = true;
      return read.promise;
    },
    onFault: (error) => faults.push(error),
  });
  await waitFor('a read under way', () => hasBegun);
  poll.close();
  read.reject(new Error('too late'));
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(faults, []);
});
