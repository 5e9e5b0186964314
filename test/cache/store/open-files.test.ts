import test from 'ava';
import fc from 'fast-check';
import type { Trailer } from '../../../services/cache/disk/trailer.ts';
import { OpenFiles } from '../../../services/cache/store/open-files.ts';
import { OpenObject } from '../../../services/cache/store/open-object.ts';
import type { Key } from '../../../services/shared/key.ts';

/** Counts the reads of `isInUse`. */
class CountedObject extends OpenObject {
  static checks = 0;

  override get isInUse(): boolean {
    CountedObject.checks += 1;
    return super.isInUse;
  }
}

let row = 0;

function openObject(key: string): CountedObject {
  row += 1;
  const trailer = { key: key as Key, namespace: '', contentType: '', length: 0, committedAt: 1n, sumOfSums: 0 } as Trailer;
  return new CountedObject({ trailer, sums: new Uint32Array(0), fd: 0, row, close: () => {} });
}

test.serial('with ten thousand objects in use, a new one does not check them all, and they close after their use', (t) => {
  const files = new OpenFiles({ max: 100 });
  const objects = Array.from({ length: 10_000 }, (_, at) => openObject(`k${at}`));
  CountedObject.checks = 0;
  for (const object of objects) {
    object.acquire();
    files.add(object);
  }
  t.is(files.size, 10_000, 'objects with readers stay');
  t.true(CountedObject.checks <= 20_000, `${CountedObject.checks}`);
  for (const object of objects) object.release();
  t.is(files.size, 100);
  t.is(objects.filter(({ isClosed }) => isClosed).length, 9_900);
  t.true(CountedObject.checks <= 60_000, `${CountedObject.checks}`);
});

test.serial('a hidden object is found by its row until its last reader ends', (t) => {
  const files = new OpenFiles({ max: 100 });
  const [used, unused] = [openObject('used'), openObject('unused')];
  for (const object of [used, unused]) files.add(object);
  used.acquire();
  files.hideIf(() => true);
  t.deepEqual([files.get(used.key), files.get(unused.key), files.size], [undefined, undefined, 0]);
  t.deepEqual([files.ofRow(used.row), files.ofRow(unused.row)], [used, undefined]);
  t.deepEqual([used.isClosed, unused.isClosed], [false, true]);
  used.release();
  t.is(files.ofRow(used.row), undefined);
  t.true(used.isClosed);
});

const act = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('open' as const), key: fc.nat(30), isInUse: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('use' as const), key: fc.nat(30) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('end' as const), key: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), key: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('shrink' as const), max: fc.nat(8) }) },
);

test.serial('open files agree with a naive model: the limit holds for objects without readers, and no object with a reader closes', (t) => {
  const max = 8;
  const property = fc.property(fc.array(act, { maxLength: 300 }), (acts) => {
    const files = new OpenFiles({ max });
    // `added`: objects that were added and not removed. `held`: objects with readers.
    const added = new Map<string, OpenObject>();
    const held: { key: string; object: OpenObject }[] = [];
    for (const each of acts) {
      const key = each.kind === 'shrink' ? '' : `k${each.key}`;
      if (each.kind === 'open') {
        const object = openObject(key);
        if (each.isInUse) {
          object.acquire();
          held.push({ key, object });
        }
        files.add(object);
        added.set(key, object);
      } else if (each.kind === 'use') {
        const object = files.get(key as Key);
        if (object !== undefined) {
          object.acquire();
          held.push({ key, object });
        }
      } else if (each.kind === 'end') {
        const at = held.findIndex((one) => one.key === key);
        if (at !== -1) held.splice(at, 1)[0]?.object.release();
      } else if (each.kind === 'remove') {
        files.remove(files.get(key as Key));
        added.delete(key);
      } else files.shrink(each.max);
      const readers = (object: OpenObject) => held.filter((one) => one.object === object).length;
      const present = [...added].filter(([one, object]) => files.get(one as Key) === object);
      if (files.size !== present.length) return false;
      if (present.some(([, object]) => object.isClosed || files.ofRow(object.row) !== object)) return false;
      if (held.some(({ object }) => object.isClosed)) return false;
      // An object that is no longer open has closed, unless a reader has it.
      const gone = [...added.values()].filter((object) => !present.some(([, one]) => one === object));
      if (gone.some((object) => object.isClosed === readers(object) > 0)) return false;
      const bound = each.kind === 'shrink' ? Math.min(max, each.max) : max;
      const idle = present.filter(([, object]) => readers(object) === 0).length;
      if (files.size > bound && idle > 0) return false;
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 300 }));
});
