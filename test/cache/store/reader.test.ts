import { crc32 } from 'node:zlib';
import test from 'ava';
import { Counters } from '../../../services/cache/counters.ts';
import { systemFiles } from '../../../services/cache/disk/files.ts';
import { blockBytes } from '../../../services/cache/disk/trailer.ts';
import { Clock } from '../../../services/cache/index/clock.ts';
import { noRow } from '../../../services/cache/index/object-index.ts';
import { LoadedBodies } from '../../../services/cache/store/loaded-bodies.ts';
import { CorruptObjectError, OpenObject } from '../../../services/cache/store/open-object.ts';
import { PageCacheWindow } from '../../../services/cache/store/page-cache-window.ts';
import { Reader } from '../../../services/cache/store/reader.ts';
import type { Store } from '../../../services/cache/store/store.ts';
import type { Key } from '../../../services/shared/key.ts';

const MiB = 1024 * 1024;
const zeros = Buffer.alloc(4 * blockBytes);
const sum = crc32(zeros.subarray(0, blockBytes));

/** Four blocks of zeros; the second one is damaged. */
function openObject(): OpenObject {
  const meta = { key: 'k' as Key, namespace: '', contentType: '', contentEncoding: '', serviceAccount: '', pod: '' };
  const origin = { origin: '', originVersion: '' };
  const sizes = { length: zeros.length, committedAt: 0n, sumOfSums: 0, sumsBytes: 16, trailerBytes: 100, fileBytes: zeros.length + 100 };
  const sums = Uint32Array.of(sum, sum + 1, sum, sum);
  return new OpenObject({ trailer: { ...meta, ...origin, ...sizes }, sums, fd: -1, row: noRow, close: () => {} });
}

function readerOf(window: PageCacheWindow): Reader {
  const files = systemFiles;
  const loaded = new LoadedBodies();
  const health = { note: () => {} };
  return new Reader({
    ...{ files, loaded, window, health, store: {} as Store, clock: new Clock(), counters: new Counters() },
    diskReads: () => 0,
  });
}

test('a block is warm after its own check, until more bytes than the window have entered the page cache', (t) => {
  const window = new PageCacheWindow({ maxBytes: 32 * MiB, startTick: 1 });
  const reader = readerOf(window);
  const object = openObject();
  t.is(reader.warmEnd(object, { from: 0, to: 1 }), 0, 'nothing was read yet');
  object.accept(zeros.subarray(0, blockBytes), 0, 5);
  object.accept(zeros.subarray(0, blockBytes), 2 * blockBytes, 5);
  t.is(reader.warmEnd(object, { from: 100, to: zeros.length }), blockBytes);
  t.is(reader.warmEnd(object, { from: blockBytes, to: zeros.length }), blockBytes);
  t.is(reader.warmEnd(object, { from: 2 * blockBytes, to: zeros.length }), 3 * blockBytes);
  t.is(reader.warmEnd(object, { from: 10, to: 20 }), 20);
  for (let tick = 6; tick < 60; tick += 1) window.entered(MiB, tick);
  object.accept(zeros.subarray(0, 10), 2 * blockBytes, 60);
  t.is(reader.warmEnd(object, { from: 0, to: zeros.length }), 0, 'the object is in use, but this block was not read for long');
  t.is(reader.warmEnd(object, { from: 2 * blockBytes, to: zeros.length }), 3 * blockBytes);
});

test('each block of a piece is checked before its first use', (t) => {
  const object = openObject();
  object.accept(zeros.subarray(0, blockBytes), 0, 1);
  t.throws(() => object.accept(zeros.subarray(0, 2 * blockBytes), 0, 2), { instanceOf: CorruptObjectError });
  t.is(object.readTick(blockBytes), 0);
});
