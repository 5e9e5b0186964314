import test from 'ava';
import fc from 'fast-check';
import { FillBounds, type FillSlot } from '../../../services/cache/fill/fill-bounds.ts';

const step = fc.record({
  namespace: fc.constantFrom('a', 'b'),
  isPrefetch: fc.boolean(),
  bytes: fc.integer({ min: 0, max: 60 }),
  leaves: fc.integer({ min: 0, max: 30 }),
});

test('no bound is exceeded, and everything is given back', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const bounds = new FillBounds({ maxFills: 10, maxBytes: 100, namespacePart: 0.5, prefetchPart: 0.6 });
      const open: { slot: FillSlot; namespace: string; isPrefetch: boolean; bytes: number }[] = [];
      for (const { namespace, isPrefetch, bytes, leaves } of steps) {
        const slot = bounds.enter({ namespace, isPrefetch });
        if (slot !== undefined) open.push({ slot, namespace, isPrefetch, bytes: slot.addBytes(bytes) ? bytes : 0 });
        for (const [of, maxFills, maxBytes] of [
          [open, 10, 100],
          [open.filter((one) => one.namespace === namespace), 5, 50],
          [open.filter((one) => one.isPrefetch), 6, 60],
          [open.filter((one) => one.isPrefetch && one.namespace === namespace), 3, 30],
        ] as const) {
          t.true(of.length <= maxFills);
          const sum = of.reduce((total, one) => total + one.bytes, 0);
          // One object alone may be larger than the bound.
          t.true(sum <= maxBytes || of.filter((one) => one.bytes > 0).length === 1);
        }
        if (leaves < open.length) for (const { slot: left } of open.splice(leaves, 1)) left.leave();
      }
      for (const { slot } of open) {
        slot.leave();
        slot.leave();
      }
      t.deepEqual([bounds.fills, bounds.bytes], [0, 0]);
    }),
  );
});

test('a demand fill finds a place beside as many prefetch fills as possible', (t) => {
  const bounds = new FillBounds({ maxFills: 4, maxBytes: 100, namespacePart: 1, prefetchPart: 0.75 });
  let prefetches = 0;
  while (bounds.enter({ namespace: 'a', isPrefetch: true }) !== undefined) prefetches += 1;
  t.is(prefetches, 3);
  t.true(bounds.enter({ namespace: 'a', isPrefetch: false })?.addBytes(10));
});
