import test from 'ava';
import fc from 'fast-check';
import { RequestRates } from '../../services/authz/rate.ts';

test('a second’s requests may come at once, and then as many as the rate allows', (t) => {
  let now = 0;
  const rates = new RequestRates({ now: () => now });
  const taken = (count: number): number => Array.from({ length: count }, () => rates.take('a', 10)).filter(Boolean).length;
  t.is(taken(50), 10);
  now += 100;
  t.is(taken(50), 1);
  now += 450;
  t.is(taken(50), 4);
  now += 60_000;
  t.is(taken(50), 10, 'what was not used is not saved up');
});

test('one namespace’s requests do not count for another', (t) => {
  const rates = new RequestRates({ now: () => 0 });
  t.true(rates.take('a', 1));
  t.false(rates.take('a', 1));
  t.true(rates.take('b', 1));
});

test('in any time no more are let through than the rate and one second’s worth', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 }), (perSecond, pauses) => {
      let now = 0;
      const rates = new RequestRates({ now: () => now });
      let passed = 0;
      for (const pause of pauses) {
        now += pause;
        if (rates.take('a', perSecond)) passed += 1;
      }
      t.true(passed <= perSecond + (now / 1000) * perSecond + 1e-6);
    }),
  );
});

test('a limit that is lowered counts at once', (t) => {
  const rates = new RequestRates({ now: () => 0 });
  t.true(rates.take('a', 1000));
  t.true(rates.take('a', 1));
  t.false(rates.take('a', 1));
});

test('more namespaces than are remembered cost no more memory, and those that asked last are still limited', (t) => {
  const rates = new RequestRates({ now: () => 0 });
  for (let index = 0; index < 30_000; index += 1) rates.take(`n${index}`, 1);
  t.false(rates.take('n29999', 1));
  t.true(rates.take('n0', 1));
});
