/** Turns at an origin: in order, bounded, and demand before prefetch. */
import test from 'ava';
import fc from 'fast-check';
import { ConcurrencyLimit, type Priority } from '../../services/origin/concurrency-limit.ts';

const never = new AbortController().signal;
const settle = () => new Promise((resolve) => setImmediate(resolve));

test('prefetch takes at most half of the turns, and demand that waits goes first', async (t) => {
  const limit = new ConcurrencyLimit({ max: 4, maxWaiting: 10, maxWaitMs: 60_000 });
  const entered: string[] = [];
  const enter = (name: string, priority: Priority) => limit.enter(never, priority).then((has) => has && entered.push(name));
  for (let index = 0; index < 3; index++) void enter(`prefetch ${index}`, 'prefetch');
  for (let index = 0; index < 3; index++) void enter(`demand ${index}`, 'demand');
  await settle();
  t.deepEqual(entered, ['prefetch 0', 'prefetch 1', 'demand 0', 'demand 1']);
  limit.leave('prefetch');
  await settle();
  t.is(entered.at(-1), 'demand 2');
  limit.leave('demand');
  await settle();
  t.is(entered.at(-1), 'prefetch 2');
  t.is(limit.open, 4);
});

test('prefetch can use the only turn of an origin', async (t) => {
  const limit = new ConcurrencyLimit({ max: 1, maxWaiting: 10, maxWaitMs: 60_000 });
  t.true(await limit.enter(never, 'prefetch'));
  const next = limit.enter(never, 'prefetch');
  limit.leave('prefetch');
  t.true(await next);
});

test('prefetch that waits takes no place from demand that waits', async (t) => {
  const limit = new ConcurrencyLimit({ max: 1, maxWaiting: 1, maxWaitMs: 60_000 });
  t.true(await limit.enter(never));
  const waiting = [limit.enter(never, 'prefetch'), limit.enter(never, 'demand')];
  t.deepEqual(await Promise.all([limit.enter(never, 'prefetch'), limit.enter(never, 'demand')]), [false, false]);
  limit.leave();
  limit.leave();
  t.deepEqual(await Promise.all(waiting), [true, true]);
});

test('the bounds hold, no turn is lost, and prefetch never waits while demand and its own share leave a turn', async (t) => {
  const step = fc.record({
    priority: fc.constantFrom<Priority>('demand', 'prefetch'),
    act: fc.constantFrom('enter', 'leave', 'abort'),
    pick: fc.nat(20),
  });
  const property = fc.asyncProperty(fc.integer({ min: 1, max: 6 }), fc.array(step, { maxLength: 80 }), async (max, steps) => {
    const limit = new ConcurrencyLimit({ max, maxWaiting: 5, maxWaitMs: 60_000 });
    const open = { demand: 0, prefetch: 0 };
    const waiting: { priority: Priority; leave: AbortController }[] = [];
    for (const { priority, act, pick } of steps) {
      if (act === 'enter') {
        const leave = new AbortController();
        const entry = { priority, leave };
        waiting.push(entry);
        void limit.enter(leave.signal, priority).then((has) => {
          waiting.splice(waiting.indexOf(entry), 1);
          if (has) open[priority]++;
        });
      } else if (act === 'abort') waiting[pick % Math.max(1, waiting.length)]?.leave.abort();
      else if (open[priority] > 0) {
        open[priority]--;
        limit.leave(priority);
      }
      await settle();
      const most = Math.max(1, Math.floor(max / 2));
      const waits = (of: Priority) => waiting.some((each) => each.priority === of);
      if (limit.open !== open.demand + open.prefetch || limit.open > max || open.prefetch > most) return false;
      if (waits('demand') && limit.open < max) return false;
      if (waits('prefetch') && limit.open < max && open.prefetch < most) return false;
    }
    for (const { leave } of waiting) leave.abort();
    return true;
  });
  await t.notThrowsAsync(fc.assert(property, { numRuns: 200 }));
});
