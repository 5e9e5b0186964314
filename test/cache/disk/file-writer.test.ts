/** The thread that writes and removes small files: its files, its errors, a file that hangs, and the end of the thread. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { FileWriter } from '../../../services/cache/disk/file-writer.ts';
import { waitFor } from '../../support/wait.ts';
import { temporaryDirectory } from '../support/shard.ts';

interface TestWriter {
  readonly directory: string;
  /** The message with which the thread has ended. */
  failure(): string | undefined;
  write(name: string, bytes?: Buffer): Promise<boolean>;
  read(name: string): string;
  remove(name: string): Promise<boolean>;
}

/** `thread`: another program for the thread. */
async function startWriter(t: ExecutionContext, thread?: 'hanging' | 'failing'): Promise<TestWriter> {
  const directory = await temporaryDirectory(t);
  mkdirSync(path.join(directory, 'temporary'));
  // On a busy machine the thread may be late. Only a test with a hung file has the real limit.
  const maxStallMs = thread === 'hanging' ? {} : { maxStallMs: 60_000 };
  const program = thread === undefined ? {} : { program: new URL(`../support/${thread}-thread.ts`, import.meta.url) };
  let failure: string | undefined;
  const onFail = (error: unknown) => {
    failure = (error as Error).message;
  };
  const writer = new FileWriter({ ...program, ...maxStallMs, onFail });
  t.teardown(() => writer.close());
  // As the server of a shard does, it keeps the event loop running. A job alone does not.
  const running = setInterval(() => {}, 60_000);
  t.teardown(() => clearInterval(running));
  let number = 0;
  const write: TestWriter['write'] = (name, bytes = Buffer.from(name)) => {
    number += 1;
    return writer.write(path.join(directory, 'temporary', String(number)), path.join(directory, name), bytes);
  };
  await waitFor('the thread writes', () => write('ready'));
  const remove = (name: string) => writer.remove(path.join(directory, name));
  return { directory, failure: () => failure, write, remove, read: (name) => readFileSync(path.join(directory, name), 'utf8') };
}

test('more files than the queue has slots, written in turns, have their bytes and names', async (t) => {
  const { directory, write, read } = await startWriter(t);
  for (let round = 0; round < 20; round += 1) {
    const names = Array.from({ length: 16 }, (_, at) => `${round}-${at}-é`);
    t.deepEqual(new Set(await Promise.all(names.map((name) => write(name)))), new Set([true]));
    for (const name of names) t.is(read(name), name);
  }
  t.is(statSync(path.join(directory, '0-0-é')).mode & 0o777, 0o600);
  t.deepEqual(readdirSync(path.join(directory, 'temporary')), []);
});

test('a file is replaced', async (t) => {
  const { write, read } = await startWriter(t);
  await write('a', Buffer.from('old'));
  t.true(await write('a', Buffer.alloc(200_000, 'n')));
  t.is(read('a'), 'n'.repeat(200_000));
});

test('a file is removed, and a missing file is ENOENT', async (t) => {
  const { directory, write, remove } = await startWriter(t);
  await write('a');
  t.true(await remove('a'));
  t.false(existsSync(path.join(directory, 'a')));
  await t.throwsAsync(remove('a'), { code: 'ENOENT' });
});

test('removals use half of the queue, and leave the other half for writes', async (t) => {
  const { directory, write, remove } = await startWriter(t);
  const names = Array.from({ length: 32 }, (_, at) => `file-${at}`);
  await Promise.all(names.map((name) => write(name)));
  const removed = Promise.all(names.map((name) => remove(name)));
  const written = Promise.all(Array.from({ length: 16 }, (_, at) => write(`new-${at}`)));
  t.is((await removed).filter(Boolean).length, 16);
  t.deepEqual(new Set(await written), new Set([true]));
  t.is(names.filter((name) => existsSync(path.join(directory, name))).length, 16);
});

test('an error of the system has its code, and later files are written', async (t) => {
  const { write, read } = await startWriter(t);
  await t.throwsAsync(write('missing/a'), { code: 'ENOENT' });
  t.true(await write('b'));
  t.is(read('b'), 'b');
});

test('a file that is too large, and files above the limit of the queue, are not written', async (t) => {
  const { directory, write } = await startWriter(t);
  t.false(await write('large', Buffer.alloc(300_000)));
  const written = await Promise.all(Array.from({ length: 40 }, (_, at) => write(`many-${at}`)));
  t.is(written.filter(Boolean).length, 32);
  t.is(readdirSync(directory).filter((name) => name.startsWith('many-')).length, 32);
});

test('a file that hangs holds up no other file, and it is written in the end', async (t) => {
  const { directory, write, read } = await startWriter(t, 'hanging');
  const hung = write('hang');
  await waitFor('the file hangs', async () => existsSync(path.join(directory, 'hang-begun')));
  const behind = await Promise.all([write('b'), write('c')]);
  t.deepEqual(behind, [false, false]);
  t.false(await write('d'), 'while a file hangs, the thread gets no other file');
  t.deepEqual(
    ['b', 'c', 'd'].filter((name) => existsSync(path.join(directory, name))),
    [],
  );
  writeFileSync(path.join(directory, 'hang-release'), '');
  t.true(await hung);
  t.is(read('hang'), 'hang');
  await waitFor('the thread writes again', () => write('e'));
  t.deepEqual(
    ['b', 'c', 'd'].filter((name) => existsSync(path.join(directory, name))),
    [],
  );
});

test('a thread that ends fails only its file; the files before it are written, and later ones use the thread pool', async (t) => {
  const { directory, failure, write } = await startWriter(t, 'failing');
  const results = await Promise.allSettled([write('a'), write('fail'), write('b')]);
  t.deepEqual(
    results.map((result) => (result.status === 'fulfilled' ? result.value : (result.reason as NodeJS.ErrnoException).code)),
    [true, 'EIO', false],
  );
  t.is(failure(), 'the thread fails');
  t.false(await write('c'));
  t.deepEqual(readdirSync(directory).sort(), ['a', 'ready', 'temporary']);
});
