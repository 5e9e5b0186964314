import test from 'ava';
import fc from 'fast-check';
import { blocksOf, fileBlockBytes, Space } from '../../../services/cache/index/space.ts';

const limits = { maxBytes: 100 * fileBlockBytes, maxFiles: 64 };

function makeSpace(onWait: (space: Space) => void = () => {}) {
  const stored = { bytes: 0, files: 0 };
  const space: Space = new Space({ limits, stored: () => stored, onWait: () => onWait(space) });
  return { space, stored };
}

test('a size is rounded up to whole blocks', (t) => {
  t.deepEqual([0, 1, 4096, 4097].map(blocksOf), [0, 1, 1, 2]);
});

test('in every order of uploads, commits, deletes and aborts, the limits hold and the counts are exact', (t) => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('take' as const), blocks: fc.integer({ min: 1, max: 40 }) }),
    fc.record({
      do: fc.constantFrom('commit' as const, 'abort' as const, 'delete' as const, 'free' as const, 'forget' as const),
      at: fc.nat(),
    }),
    fc.record({ do: fc.constant('reserve' as const), blocks: fc.integer({ min: 1, max: 90 }) }),
    fc.record({ do: fc.constant('release' as const), at: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const { space, stored } = makeSpace();
      space.markCounted();
      const [uploading, objects, deleting, reserved]: [number[], number[], number[], number[]] = [[], [], [], []];
      const sum = (list: readonly number[]) => list.reduce((total, bytes) => total + bytes, 0);
      const pick = (list: number[], at: number): number | undefined => list.splice(at % Math.max(1, list.length), 1)[0];
      for (const each of steps) {
        switch (each.do) {
          case 'take': {
            const bytes = each.blocks * fileBlockBytes;
            const fits = sum([...uploading, ...objects, ...deleting]) + bytes <= limits.maxBytes;
            const isTaken = space.tryTake(bytes, 1);
            t.is(isTaken, fits && uploading.length + objects.length + deleting.length < limits.maxFiles);
            if (isTaken) uploading.push(bytes);
            break;
          }
          case 'commit': {
            const bytes = pick(uploading, each.at);
            if (bytes === undefined) break;
            space.commit(bytes, 1);
            stored.bytes += bytes;
            stored.files += 1;
            objects.push(bytes);
            break;
          }
          case 'abort': {
            const bytes = pick(uploading, each.at);
            if (bytes !== undefined) space.giveBack(bytes, 1);
            break;
          }
          case 'delete': {
            const bytes = pick(objects, each.at);
            if (bytes === undefined) break;
            stored.bytes -= bytes;
            stored.files -= 1;
            space.beginDelete(bytes, 1);
            deleting.push(bytes);
            break;
          }
          case 'free':
          case 'forget': {
            const bytes = pick(deleting, each.at);
            if (bytes !== undefined) each.do === 'free' ? space.endDelete(bytes, 1) : space.forgetDelete(bytes, 1);
            break;
          }
          case 'reserve': {
            const bytes = each.blocks * fileBlockBytes;
            const isGranted = space.reserve(bytes);
            t.is(isGranted, sum([...reserved, ...uploading, ...deleting]) + bytes <= limits.maxBytes);
            if (isGranted) reserved.push(bytes);
            break;
          }
          case 'release': {
            const bytes = pick(reserved, each.at);
            if (bytes !== undefined) space.release(bytes);
            break;
          }
        }
        t.is(space.usedBytes, sum([...uploading, ...objects, ...deleting]));
        t.is(space.reservedBytes, sum([...uploading, ...deleting]));
        t.is(space.usedFiles, uploading.length + objects.length + deleting.length);
        t.true(space.usedBytes <= limits.maxBytes && space.usedFiles <= limits.maxFiles);
      }
    }),
  );
});

test('waiting uploads get room in the order of arrival, and a later small upload does not overtake', async (t) => {
  const { space } = makeSpace();
  space.markCounted();
  t.true(space.tryTake(90 * fileBlockBytes, 1));
  const order: string[] = [];
  const large = space.take(50 * fileBlockBytes, 1).then((isGranted) => order.push(`large ${isGranted}`));
  const small = space.take(fileBlockBytes, 1).then((isGranted) => order.push(`small ${isGranted}`));
  t.deepEqual(space.wanted?.bytes, 50 * fileBlockBytes);
  t.false(space.tryTake(fileBlockBytes, 1));
  space.giveBack(90 * fileBlockBytes, 1);
  await Promise.all([large, small]);
  t.deepEqual(order, ['large true', 'small true']);
});

test('when nothing more can be freed, the first waiting upload is rejected and the next one gets room', async (t) => {
  const waits: number[] = [];
  const { space } = makeSpace((own) => waits.push(own.wanted?.bytes ?? 0));
  space.markCounted();
  t.true(space.tryTake(90 * fileBlockBytes, 1));
  const large = space.take(50 * fileBlockBytes, 1);
  const small = space.take(10 * fileBlockBytes, 1);
  space.refuseFirst();
  t.deepEqual([await large, await small], [false, true]);
  t.deepEqual(waits, [50 * fileBlockBytes, 50 * fileBlockBytes]);
});

test('until all files are counted, only room that was freed since the start may be taken', (t) => {
  const { space, stored } = makeSpace();
  stored.bytes = 10 * fileBlockBytes;
  stored.files = 1;
  t.false(space.tryTake(fileBlockBytes, 1));
  stored.bytes = 0;
  stored.files = 0;
  space.beginDelete(10 * fileBlockBytes, 1);
  t.false(space.tryTake(fileBlockBytes, 1));
  space.endDelete(10 * fileBlockBytes, 1);
  t.true(space.tryTake(10 * fileBlockBytes, 1));
  t.false(space.tryTake(fileBlockBytes, 0));
  // A file that another program has removed does not count as freed room.
  space.beginDelete(fileBlockBytes, 1);
  space.forgetDelete(fileBlockBytes, 1);
  t.false(space.tryTake(fileBlockBytes, 0));
  space.markCounted();
  t.true(space.tryTake(90 * fileBlockBytes, 1));
});

test('a lowered ceiling holds until it is lifted, and lifting it serves the waiting uploads', async (t) => {
  const { space } = makeSpace();
  space.markCounted();
  space.lower(10 * fileBlockBytes);
  t.is(space.limitBytes, 10 * fileBlockBytes);
  const waiting = space.take(20 * fileBlockBytes, 1);
  space.lift();
  t.true(await waiting);
  t.is(space.limitBytes, limits.maxBytes);
});

test('the files since the last measurement of the folders are counted', (t) => {
  const { space } = makeSpace();
  space.commit(fileBlockBytes, 1);
  space.commit(fileBlockBytes, 1);
  t.is(space.filesSinceOverhead, 2);
  space.setOverhead(fileBlockBytes);
  t.is(space.filesSinceOverhead, 0);
});
