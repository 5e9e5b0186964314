import test from 'ava';
import fc from 'fast-check';
import { NamespaceRates } from '../../services/authz/rate.ts';

function setting() {
  const world = { now: 0 };
  const rates = new NamespaceRates({ now: () => world.now });
  const isLetIn = (namespace: string, requestsPerSecond: number): boolean => rates.admit(namespace, { requestsPerSecond }) === undefined;
  return { world, rates, isLetIn };
}

test('a second’s requests may come at once, and then as many as the rate allows', (t) => {
  const { world, isLetIn } = setting();
  const letIn = (count: number): number => Array.from({ length: count }, () => isLetIn('a', 10)).filter(Boolean).length;
  t.is(letIn(50), 10);
  world.now += 100;
  t.is(letIn(50), 1);
  world.now += 450;
  t.is(letIn(50), 4);
  world.now += 60_000;
  t.is(letIn(50), 10, 'what was not used is not saved up');
});

test('one namespace’s requests do not count for another, and none without a limit', (t) => {
  const { rates, isLetIn } = setting();
  t.true(isLetIn('a', 1));
  t.false(isLetIn('a', 1));
  t.true(isLetIn('b', 1));
  t.is(rates.admit('a', {}), undefined);
});

test('in any time no more are let in than the rate and one second’s worth', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 }), (perSecond, pauses) => {
      const { world, isLetIn } = setting();
      let passed = 0;
      for (const pause of pauses) {
        world.now += pause;
        if (isLetIn('a', perSecond)) passed += 1;
      }
      t.true(passed <= perSecond + (world.now / 1000) * perSecond + 1e-6);
    }),
  );
});

test('a limit that is lowered counts at once', (t) => {
  const { isLetIn } = setting();
  t.true(isLetIn('a', 1000));
  t.true(isLetIn('a', 1));
  t.false(isLetIn('a', 1));
});

test('more namespaces than are remembered cost no more memory, and those that asked last are still limited', (t) => {
  const { isLetIn } = setting();
  for (let index = 0; index < 30_000; index += 1) isLetIn(`n${index}`, 1);
  t.false(isLetIn('n29999', 1));
  t.true(isLetIn('n0', 1));
});

test('bytes are owed once a transfer has ended: the namespace waits until they are made up', (t) => {
  const { world, rates } = setting();
  const limits = { bytesPerSecond: 100 };
  t.is(rates.admit('a', limits), undefined);
  rates.transferred('a', 1_100);
  t.like(rates.admit('a', limits), { limit: 'bytesPerSecond', perSecond: 100 });
  t.is(Math.ceil(rates.admit('a', limits)?.waitSeconds ?? 0), 11);
  world.now += 9_900;
  t.not(rates.admit('a', limits), undefined);
  world.now += 200;
  t.is(rates.admit('a', limits), undefined);
  t.is(rates.admit('b', limits), undefined);
});

test('a request that its bytes keep out does not count as one', (t) => {
  const { rates } = setting();
  const limits = { requestsPerSecond: 2, bytesPerSecond: 100 };
  t.is(rates.admit('a', limits), undefined);
  rates.transferred('a', 100);
  t.is(rates.admit('a', limits)?.limit, 'bytesPerSecond');
  t.is(rates.admit('a', { requestsPerSecond: 2 }), undefined);
  t.is(rates.admit('a', { requestsPerSecond: 2 })?.limit, 'requestsPerSecond');
});

test('no more than a minute is owed, whatever was transferred, and nothing by whom nobody let in', (t) => {
  const { world, rates } = setting();
  const limits = { bytesPerSecond: 1 };
  rates.transferred('stranger', 2 ** 40);
  t.is(rates.admit('stranger', limits), undefined);
  rates.transferred('stranger', 2 ** 40);
  t.is(Math.floor(rates.admit('stranger', limits)?.waitSeconds ?? 0), 61);
  world.now += 62_000;
  t.is(rates.admit('stranger', limits), undefined);
});
