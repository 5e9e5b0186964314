/** The thread that reads small files whole: its files, its errors, its bound, a file that hangs, and the end of the thread. */
import { closeSync, existsSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { FileReader, type WholeFile } from '../../../services/cache/disk/file-reader.ts';
import { maxReads } from '../../../services/cache/disk/read-jobs.ts';
import { waitFor } from '../../support/wait.ts';
import { threaded } from '../support/file-reader.ts';
import { temporaryDirectory } from '../support/shard.ts';

interface TestReader {
  readonly directory: string;
  /** The message with which the thread has ended. */
  failure(): string | undefined;
  /** Creates the file if it is missing. Its bytes are its name. */
  read(name: string, bytes?: number): Promise<WholeFile | undefined>;
  /** The files in the directory that this process has open. */
  open(): string[];
}

/**
 * `isHostile`: another program for the thread, with files that hang or end it. On a busy machine the thread may be late, so only a test with
 * a hung file has a limit that it reaches.
 */
async function startReader(t: ExecutionContext, { isHostile = false, maxLagMs = 60_000, maxStallMs = 60_000 } = {}): Promise<TestReader> {
  const directory = await temporaryDirectory(t);
  const limits = { maxLagMs, maxStallMs };
  const program = isHostile ? { program: new URL('../support/hostile-read-thread.ts', import.meta.url) } : {};
  let failure: string | undefined;
  const onFail = (error: unknown) => {
    failure = (error as Error).message;
  };
  const reader = new FileReader({ ...program, ...limits, onFail });
  t.teardown(() => reader.close());
  // As the server of a shard does, it keeps the event loop running. A job alone does not.
  const running = setInterval(() => {}, 60_000);
  t.teardown(() => clearInterval(running));
  const read: TestReader['read'] = async (name, bytes = 4096) => {
    const file = `${directory}/${name}`;
    if (!existsSync(file)) writeFileSync(file, name);
    return await reader.read(file, bytes);
  };
  const open = () =>
    readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        const file = readlinkSync(`/proc/self/fd/${fd}`);
        return path.dirname(file) === directory ? [path.basename(file)] : [];
      } catch {
        return [];
      }
    });
  await waitFor('the thread reads', async () => {
    const file = await read('ready');
    return file === undefined ? false : textOf(file) === 'ready';
  });
  return { directory, failure: () => failure, read, open };
}

/** Ends the use of a file. */
function textOf({ fd, buffer, offset, bytes, give }: WholeFile): string {
  const text = buffer.toString('utf8', offset, offset + bytes);
  closeSync(fd);
  give();
  return text;
}

threaded('more files than there are slots, read in turns, have their bytes and descriptors', async (t) => {
  const { directory, read, open } = await startReader(t);
  for (let round = 0; round < 20; round += 1) {
    const names = Array.from({ length: 16 }, (_, at) => `${round}-${at}-é`);
    const files = (await Promise.all(names.map((name) => read(name)))) as WholeFile[];
    for (const [at, file] of files.entries()) {
      const name = names[at] as string;
      t.is(readlinkSync(`/proc/self/fd/${file.fd}`), path.join(directory, name));
      t.is(textOf(file), name);
    }
  }
  t.deepEqual(open(), []);
});

threaded('a read ends at its limit and at the end of the file', async (t) => {
  const { directory, read } = await startReader(t);
  writeFileSync(path.join(directory, 'a'), 'a'.repeat(200_000));
  t.is(textOf((await read('a', 150_000)) as WholeFile).length, 150_000);
  t.is(textOf((await read('a', 250_000)) as WholeFile).length, 200_000);
  writeFileSync(path.join(directory, 'empty'), '');
  t.is(textOf((await read('empty')) as WholeFile), '');
});

threaded('an error of the system has its code, and later files are read', async (t) => {
  const { directory, read } = await startReader(t);
  await t.throwsAsync(read('missing/a'), { code: 'ENOENT' });
  const reader = await startReader(t);
  await t.throwsAsync(reader.read('../', 10), { code: 'EISDIR' });
  t.deepEqual(readdirSync(directory), ['ready']);
  t.is(textOf((await read('b')) as WholeFile), 'b');
});

threaded('files in use never exceed the bound, and each that is given back makes room', async (t) => {
  const { read, open } = await startReader(t);
  t.is(await read('large', 300_000), undefined);
  t.is(await read(`${'./'.repeat(200)}long`), undefined, 'a path that may not fit');
  const files = (await Promise.all(Array.from({ length: 40 }, (_, at) => read(`many-${at}`)))).filter((file) => file !== undefined);
  t.is(files.length, maxReads);
  t.is(new Set(files.map(({ buffer }) => buffer.byteOffset)).size, maxReads);
  t.is(await read('further'), undefined);
  for (const [at, file] of files.entries()) t.is(textOf(file), `many-${at}`);
  t.deepEqual(open(), []);
  t.is(textOf((await read('further')) as WholeFile), 'further');
});

test('a read that hangs holds up no other file; the files behind it are started, then closed', async (t) => {
  const { directory, read, open } = await startReader(t, { isHostile: true, maxStallMs: 3_000 });
  const all = [read('hang'), read('b'), read('c')];
  await waitFor('the thread has started all files', () => existsSync(path.join(directory, 'c-started')));
  t.deepEqual(await Promise.all(all), [undefined, undefined, undefined], 'another way must read them');
  t.is(await read('d'), undefined, 'while a file hangs, the thread gets no other file');
  writeFileSync(path.join(directory, 'hang-release'), '');
  await waitFor('the thread reads again', async () => {
    const file = await read('e');
    return file === undefined ? false : textOf(file) === 'e';
  });
  t.deepEqual(open(), []);
  t.false(existsSync(path.join(directory, 'd-started')));
});

test('while the oldest file is late, new files need another way, and it is read in the end', async (t) => {
  const { directory, read } = await startReader(t, { isHostile: true, maxLagMs: 50 });
  const late = read('hang');
  const begunMs = performance.now();
  await waitFor('it is late', () => performance.now() - begunMs > 60);
  t.is(await read('b'), undefined);
  writeFileSync(path.join(directory, 'hang-release'), '');
  t.is(textOf((await late) as WholeFile), 'hang');
  t.is(textOf((await read('c')) as WholeFile), 'c');
});

test('after the end of the thread, no file is lost: the files in it and later ones need another way', async (t) => {
  const { failure, read } = await startReader(t, { isHostile: true });
  const [before, ...behind] = await Promise.all([read('a'), read('fail'), read('b')]);
  t.deepEqual(behind, [undefined, undefined]);
  if (before !== undefined) t.is(textOf(before), 'a');
  t.is(failure(), 'the thread fails');
  t.is(await read('c'), undefined);
});
