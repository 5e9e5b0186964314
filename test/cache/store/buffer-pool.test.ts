import test from 'ava';
import { BufferPool, BufferTimeoutError } from '../../../services/cache/store/buffer-pool.ts';

const large = 272 * 1024;
const KiB = 1024;

function drainedPool(blocks: number) {
  const pool = new BufferPool({ maxBytes: blocks * large });
  const taken: Buffer[] = [];
  for (let buffer = pool.tryTake(large); buffer !== undefined; buffer = pool.tryTake(large)) taken.push(buffer);
  return { pool, taken };
}

test('a buffer has the smallest size that fits', (t) => {
  const pool = new BufferPool({ maxBytes: 100 * large });
  t.deepEqual(
    [1, 16 * KiB, 16 * KiB + 1, 80 * KiB, 80 * KiB + 1, large].map((bytes) => pool.tryTake(bytes)?.length),
    [16 * KiB, 16 * KiB, 80 * KiB, 80 * KiB, large, large],
  );
});

test('the buffers never exceed the limit, and unused buffers of another size are dropped', (t) => {
  const { pool, taken } = drainedPool(10);
  t.is(taken.length, 10);
  t.is(pool.tryTake(1), undefined);
  pool.give(taken.pop() as Buffer);
  t.is(pool.tryTake(1)?.length, 16 * KiB);
  t.is(pool.tryTake(large), undefined);
});

test('a wait ends with the next free buffer, in the order of arrival, or at its deadline', async (t) => {
  const { pool, taken } = drainedPool(8);
  const order: number[] = [];
  const first = pool.take(large, 60_000).then(() => order.push(1));
  const second = pool.take(large, 60_000).then(() => order.push(2));
  await t.throwsAsync(pool.take(large, 5), { instanceOf: BufferTimeoutError });
  t.is(pool.waiters, 2);
  pool.give(taken.pop() as Buffer);
  pool.give(taken.pop() as Buffer);
  await Promise.all([first, second]);
  t.deepEqual(order, [1, 2]);
});

test('uploads get at most half of the pool, one namespace a quarter, and readers the rest', async (t) => {
  const pool = new BufferPool({ maxBytes: 16 * large });
  const take = (namespace: string) => pool.tryTake(large, { namespace });
  const ours = Array.from({ length: 6 }, () => take('one'));
  t.deepEqual(
    ours.map((buffer) => buffer !== undefined),
    [true, true, true, true, false, false],
  );
  t.truthy(take('two'));
  for (let at = 0; at < 3; at += 1) t.truthy(take('two'));
  t.is(take('three'), undefined, 'half of the pool is used by uploads');
  for (let at = 0; at < 8; at += 1) t.truthy(pool.tryTake(large));
  t.is(pool.tryTake(large), undefined);
  const waiting = pool.take(large, 60_000, { namespace: 'three' });
  pool.give(ours[0] as Buffer, { namespace: 'one' });
  t.is((await waiting).length, large);
});

test('an upload that waits for its share does not delay a reader', async (t) => {
  const pool = new BufferPool({ maxBytes: 16 * large });
  const held = Array.from({ length: 4 }, () => pool.tryTake(large, { namespace: 'one' }) as Buffer);
  const upload = pool.take(large, 60_000, { namespace: 'one' });
  t.is((await pool.take(large, 1_000)).length, large);
  pool.give(held[0] as Buffer, { namespace: 'one' });
  t.is((await upload).length, large);
});

test('bytes that wait outside the buffers count', (t) => {
  const pool = new BufferPool({ maxBytes: 8 * large });
  pool.hold(8 * large);
  t.true(pool.isExhausted);
  t.is(pool.tryTake(1), undefined);
  pool.hold(-8 * large);
  t.false(pool.isExhausted);
  t.truthy(pool.tryTake(1));
});

test('memory that was unused from one trim to the next is freed', (t) => {
  const { pool, taken } = drainedPool(8);
  for (const buffer of taken) pool.give(buffer);
  pool.trim();
  t.is(pool.allocatedBytes, 8 * large, 'all were in use since the last trim');
  const one = pool.tryTake(large) as Buffer;
  pool.give(one);
  pool.trim();
  t.is(pool.allocatedBytes, large);
});
