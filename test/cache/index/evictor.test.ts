import test from 'ava';
import { Evictor } from '../../../services/cache/index/evictor.ts';
import { noRow, ObjectIndex } from '../../../services/cache/index/object-index.ts';
import { fileBlockBytes, Space } from '../../../services/cache/index/space.ts';

/** Files of one block each. The test ends each eviction. */
function makeEvictor({ objects, maxBlocks = 160 }: { objects: number; maxBlocks?: number }) {
  const index = new ObjectIndex({ capacity: 1000 });
  for (let at = 1; at <= objects; at += 1) index.insert({ a: at, b: 0, c: 0, blocks: 1, tick: at, group: 2 });
  const stored = () => ({ bytes: index.totalBlocks * fileBlockBytes, files: index.count });
  const space: Space = new Space({ limits: { maxBytes: maxBlocks * fileBlockBytes, maxFiles: 1000 }, stored, onWait: () => evictor.run() });
  space.markCounted();
  const running: { digest: number; end: () => void }[] = [];
  const started: number[] = [];
  const evictor: Evictor = new Evictor({
    index,
    space,
    chooseVictim: (isShort) => (isShort ? index.oldest() : noRow),
    evict: (row) => {
      const digest = index.digest(row).a;
      const { promise, resolve } = Promise.withResolvers<boolean>();
      started.push(digest);
      index.remove(row);
      space.beginDelete(fileBlockBytes, 1);
      running.push({
        digest,
        end: () => {
          space.endDelete(fileBlockBytes, 1);
          resolve(true);
        },
      });
      return promise;
    },
  });
  const settle = async () => {
    while (running.length > 0) {
      running.shift()?.end();
      await Promise.resolve();
      await Promise.resolve();
    }
  };
  return { index, space, evictor, started, running, settle };
}

test('it frees only the headroom, oldest objects first, before the room is needed', async (t) => {
  const { space, evictor, started, settle } = makeEvictor({ objects: 158 });
  evictor.run();
  await settle();
  t.deepEqual(started, [1, 2, 3, 4, 5, 6, 7, 8]);
  t.true(space.freeBytes >= space.headroom.bytes);
  evictor.run();
  t.is(started.length, 8);
});

test('at most eight removals run at once', (t) => {
  const { evictor, running } = makeEvictor({ objects: 160 });
  evictor.run();
  t.is(running.length, 8);
  evictor.run();
  t.is(running.length, 8);
});

test('a waiting upload gets room from as many evictions as it needs', async (t) => {
  const { space, started, settle } = makeEvictor({ objects: 150 });
  const room = space.take(40 * fileBlockBytes, 1);
  await settle();
  t.true(await room);
  t.true(started.length >= 30);
});

test('a waiting upload is rejected at once when nothing is left to evict', async (t) => {
  const { space } = makeEvictor({ objects: 0 });
  t.true(space.tryTake(155 * fileBlockBytes, 1));
  t.false(await space.take(10 * fileBlockBytes, 1));
});

test('it can make room if an object may be evicted, if an eviction is running, or if room is free', async (t) => {
  const full = makeEvictor({ objects: 160 });
  t.true(full.evictor.canMakeRoom(fileBlockBytes));
  full.evictor.run();
  t.true(full.evictor.canMakeRoom(fileBlockBytes));
  const { evictor, space } = makeEvictor({ objects: 0 });
  t.true(evictor.canMakeRoom(fileBlockBytes));
  t.true(space.tryTake(160 * fileBlockBytes, 1));
  t.false(evictor.canMakeRoom(fileBlockBytes));
});
