/** The threads that read the ends of files: their bytes, files that cannot be read, a thread that hangs, and a thread that ends. */
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TailReader } from '../../../services/cache/disk/tail-reader.ts';
import { waitFor } from '../../support/wait.ts';
import { temporaryDirectory } from '../support/shard.ts';

/** `isOdd`: with threads that hang and fail. `maxStallMs` is out of reach for a busy machine, except for a test of it. */
async function startReader(t: ExecutionContext, { isOdd = false, maxStallMs = 60_000 } = {}) {
  const directory = await temporaryDirectory(t);
  const failures: string[] = [];
  const program = isOdd ? { program: new URL('../support/odd-tail-thread.ts', import.meta.url) } : {};
  const reader = new TailReader({ ...program, maxStallMs, onFail: (error) => failures.push((error as Error).message) });
  t.teardown(() => reader.close());
  // As the server of a shard does, it keeps the event loop running. A read alone does not.
  const running = setInterval(() => {}, 60_000);
  t.teardown(() => clearInterval(running));
  const read = async (name: string, position = 0, length = 100) =>
    (await reader.read(path.join(directory, name), position, length))?.toString();
  return { directory, failures, reader, read };
}

test('many files, read in turns, return their own parts; a missing file returns none', async (t) => {
  const { directory, read } = await startReader(t);
  const names = Array.from({ length: 100 }, (_, at) => String(at));
  for (const name of names) writeFileSync(path.join(directory, name), `head tail-${name}`);
  rmSync(path.join(directory, '50'));
  for (const count of [1, 2, 3, 100]) {
    const some = names.slice(-count);
    t.deepEqual(
      await Promise.all(some.map((name) => read(name, 5))),
      some.map((name) => (name === '50' ? undefined : `tail-${name}`)),
    );
  }
  t.is(await read('7', 5, 4), 'tail');
  t.is(await read('7', 1_000), '');
  t.is(await read('.'), undefined);
});

test('more reads than the limit return none at once', async (t) => {
  const { directory, read } = await startReader(t);
  writeFileSync(path.join(directory, 'a'), 'a');
  const found = await Promise.all(Array.from({ length: 1_100 }, () => read('a')));
  t.is(found.filter((each) => each === 'a').length, 1_024);
  t.is(await read('a'), 'a');
});

test('behind a file that hangs, reads return none, and no threads start until it has ended', async (t) => {
  const { directory, read } = await startReader(t, { isOdd: true, maxStallMs: 500 });
  const end = () => writeFileSync(path.join(directory, 'hang-release'), '');
  t.teardown(end);
  t.deepEqual(await Promise.all([read('hang'), read('a')]).then(([hung]) => hung), undefined);
  t.is(await read('b'), undefined);
  end();
  t.is(await waitFor('new threads read', () => read('c')), '\u0007');
});

test('a disk that is slow in each file does not count as hung', async (t) => {
  const { read } = await startReader(t, { isOdd: true, maxStallMs: 1_000 });
  const found = await Promise.all(Array.from({ length: 64 }, () => read('slow')));
  t.deepEqual(new Set(found), new Set(['\u0007']));
});

test('a thread that ends is reported once, and later reads return none', async (t) => {
  const { failures, read } = await startReader(t, { isOdd: true });
  t.is(await read('a'), '\u0007');
  t.deepEqual(await Promise.all([read('fail'), read('fail')]), [undefined, undefined]);
  t.is(await read('b'), undefined);
  t.deepEqual(failures, ['the thread fails']);
});

test('a reader that closes answers the reads that wait', async (t) => {
  const { directory, reader, read } = await startReader(t, { isOdd: true });
  const hung = read('hang');
  await new Promise((resolve) => setImmediate(resolve));
  const closed = reader.close();
  t.is(await hung, undefined);
  writeFileSync(path.join(directory, 'hang-release'), '');
  await closed;
  t.is(await read('a'), undefined);
});
