import test from 'ava';
import fc from 'fast-check';
import { NamespaceRates } from '../../../services/authz/rate-limit/rate.ts';
import { createThrottle } from '../../../services/authz/rate-limit/throttle.ts';

function setting() {
  const world = { now: 0 };
  const rates = new NamespaceRates({ now: () => world.now });
  const isLetIn = (namespace: string, requestsPerSecond: number): boolean =>
    rates.admit(namespace, { requestsPerSecond }).excess === undefined;
  return { world, rates, isLetIn };
}

test('requests for one second pass immediately, those for half a second are delayed, and others are refused after the same delay', (t) => {
  const { world, rates } = setting();
  const admit = (count: number) => Array.from({ length: count }, () => rates.admit('a', { requestsPerSecond: 10 }));
  const holds = (admissions: ReturnType<typeof admit>): number[] => admissions.map(({ holdSeconds }) => Math.round(holdSeconds * 10) / 10);
  const first = admit(30);
  t.deepEqual(holds(first.slice(0, 15)), [...Array<number>(10).fill(0), 0.1, 0.2, 0.3, 0.4, 0.5]);
  t.true(first.slice(0, 15).every(({ excess }) => excess === undefined));
  for (const { holdSeconds, excess } of first.slice(15)) {
    t.is(holdSeconds, 0.5);
    t.like(excess, { limit: 'requestsPerSecond', perSecond: 10 });
  }
  world.now += 450;
  t.is(admit(50).filter(({ excess }) => excess === undefined).length, 4);
  world.now += 60_000;
  t.is(holds(admit(50)).filter((hold) => hold === 0).length, 10, 'what was not used is not saved up');
});

test('namespaces are counted separately, and namespaces without a limit are not counted', (t) => {
  const { rates, isLetIn } = setting();
  t.true(isLetIn('a', 1));
  t.false(isLetIn('a', 1));
  t.true(isLetIn('b', 1));
  t.deepEqual(rates.admit('a', {}), { holdSeconds: 0, excess: undefined });
});

test('the admitted requests never exceed the rate plus one second’s worth', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 }), (perSecond, pauses) => {
      const { world, rates } = setting();
      let passed = 0;
      for (const pause of pauses) {
        world.now += pause;
        const { holdSeconds, excess } = rates.admit('a', { requestsPerSecond: perSecond });
        if (excess === undefined) passed += 1;
        t.true(passed <= perSecond + (world.now / 1000 + holdSeconds) * perSecond + 1e-6);
      }
    }),
  );
});

test('a lowered limit takes effect immediately', (t) => {
  const { isLetIn } = setting();
  t.true(isLetIn('a', 1000));
  t.true(isLetIn('a', 1));
  t.false(isLetIn('a', 1));
});

test('above the maximum of namespaces memory stays constant, and the most recent ones are still limited', (t) => {
  const { isLetIn } = setting();
  for (let index = 0; index < 30_000; index += 1) isLetIn(`n${index}`, 1);
  t.false(isLetIn('n29999', 1));
  t.true(isLetIn('n0', 1));
});

test('the bytes of a finished transfer delay the next requests of its namespace', (t) => {
  const { world, rates } = setting();
  const limits = { bytesPerSecond: 100 };
  t.is(rates.admit('a', limits).excess, undefined);
  rates.transferred('a', 1_100);
  const { holdSeconds, excess } = rates.admit('a', limits);
  t.is(holdSeconds, 0.5);
  t.like(excess, { limit: 'bytesPerSecond', perSecond: 100 });
  t.is(Math.ceil(excess?.waitSeconds ?? 0), 11);
  world.now += 9_400;
  t.not(rates.admit('a', limits).excess, undefined);
  world.now += 200;
  const next = rates.admit('a', limits);
  t.true(next.excess === undefined && next.holdSeconds > 0.3, 'the rest of its time is waited for');
  t.is(rates.admit('b', limits).excess, undefined);
});

test('a request that the byte limit refuses does not count as a request', (t) => {
  const { rates } = setting();
  const limits = { requestsPerSecond: 1, bytesPerSecond: 100 };
  rates.admit('a', { bytesPerSecond: 100 });
  rates.transferred('a', 1_000);
  t.is(rates.admit('a', limits).excess?.limit, 'bytesPerSecond');
  t.is(rates.admit('a', { requestsPerSecond: 1 }).excess, undefined);
  t.is(rates.admit('a', { requestsPerSecond: 1 }).excess?.limit, 'requestsPerSecond');
});

test('debt is at most a minute’s worth, and transfers of an unknown namespace cause none', (t) => {
  const { world, rates } = setting();
  const limits = { bytesPerSecond: 1 };
  rates.transferred('stranger', 2 ** 40);
  t.is(rates.admit('stranger', limits).excess, undefined);
  rates.transferred('stranger', 2 ** 40);
  t.is(Math.floor(rates.admit('stranger', limits).excess?.waitSeconds ?? 0), 61);
  world.now += 62_000;
  t.is(rates.admit('stranger', limits).excess, undefined);
});

test('a long transfer pays its bytes in full: those above the rate become debt', (t) => {
  const { world, rates } = setting();
  const limits = { bytesPerSecond: 100 };
  rates.admit('a', limits);
  world.now += 120_000;
  rates.transferred('a', 100 * 150);
  t.is(Math.round(rates.admit('a', limits).excess?.waitSeconds ?? 0), 29);
  rates.admit('b', limits);
  world.now += 120_000;
  rates.transferred('b', 100 * 120);
  t.true(rates.admit('b', limits).holdSeconds < 0.5, 'one that kept to it owes nothing');
});

test('at most 200 requests of a namespace are delayed, and none for longer than Envoy waits', async (t) => {
  const held: { ms: number; release: () => void }[] = [];
  const excess = { limit: 'requestsPerSecond', perSecond: 1, waitSeconds: 9 } as const;
  const throttle = createThrottle({
    rates: { admit: () => ({ holdSeconds: 0.5, excess }) },
    delay: (ms) => new Promise<void>((release) => held.push({ ms, release })),
  });
  const answers = Array.from({ length: 200 }, () => throttle('a', {}, 0));
  t.is(await throttle('a', {}, 0), excess, 'at once');
  void throttle('b', {}, 0);
  t.is(held.length, 201, 'those of another one too');
  for (const { release } of held) release();
  t.deepEqual(new Set(await Promise.all(answers)), new Set([excess]));
  const again = throttle('a', {}, 0);
  t.is(held.length, 202);
  held.at(-1)?.release();
  t.is(await again, excess);
  void throttle('a', {}, 700);
  t.deepEqual(
    held.map(({ ms }) => ms),
    [...Array<number>(202).fill(500), 200],
  );
  t.is(await throttle('a', {}, 950), excess, 'nothing is left of its time');
});
