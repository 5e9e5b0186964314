/** Objects that the thread reads: their bodies and sums, and files that are damaged, torn or longer than expected. */
import { readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { FileReader } from '../../../services/cache/disk/file-reader.ts';
import { type Files, systemFiles } from '../../../services/cache/disk/files.ts';
import { blockBytes, encodeTrailer } from '../../../services/cache/disk/trailer.ts';
import { BufferPool } from '../../../services/cache/store/buffer-pool.ts';
import { CorruptObjectError } from '../../../services/cache/store/open-object.ts';
import { readObject } from '../../../services/cache/store/read-object.ts';
import type { Key } from '../../../services/shared/key.ts';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { flipBit } from '../support/disk.ts';
import { threaded } from '../support/file-reader.ts';
import { startCacheProcess } from '../support/process.ts';
import { temporaryDirectory } from '../support/shard.ts';

const body = Buffer.from('kura'.repeat(10_000));

/** Object files in a folder, which only the thread can open. */
async function startThread(t: ExecutionContext) {
  const directory = await temporaryDirectory(t);
  const reader = new FileReader({ maxLagMs: 60_000, maxStallMs: 60_000, onFail: (error) => t.fail(String(error)) });
  t.teardown(() => reader.close());
  const running = setInterval(() => {}, 60_000);
  t.teardown(() => clearInterval(running));
  const files: Files = {
    ...systemFiles,
    open: () => Promise.reject(new Error('the thread has not read the file')),
    readWhole: (file, bytes) => reader.read(file, bytes),
  };
  const buffers = new BufferPool({ maxBytes: 2 ** 22 });
  const create = (name: string, bytes: Buffer): string => {
    const strings = { namespace: '', contentType: '', contentEncoding: '', serviceAccount: '', pod: '', origin: '', originVersion: '' };
    const sums = bytes.length === 0 ? new Uint32Array() : Uint32Array.of(crc32(bytes));
    const file = path.join(directory, name);
    writeFileSync(
      file,
      Buffer.concat([bytes, encodeTrailer({ ...strings, key: name as Key, length: bytes.length, committedAt: 1n }, sums)]),
    );
    return file;
  };
  const read = (file: string, blocks: number) => readObject({ files, buffers, path: file, blocks, tick: 7 });
  await waitFor('the thread reads', async () => {
    const { object, body: got } = await read(create('ready', body), 10);
    got?.give();
    object.release();
    return true;
  });
  /** The files in the folder that this process has open. */
  const open = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory);
      } catch {
        return false;
      }
    });
  return { create, read, open, buffers };
}

threaded('an object of at most one block comes with its checked body, and with its descriptor', async (t) => {
  const { create, read, open, buffers } = await startThread(t);
  for (const bytes of [body, Buffer.from('a'), Buffer.alloc(blockBytes, 'b')]) {
    const file = create(`a-${bytes.length}`, bytes);
    const { object, body: got } = await read(file, Math.ceil((bytes.length + 100) / 4096));
    t.true(got?.buffer.subarray(got.offset, got.offset + bytes.length).equals(bytes));
    t.is(object.readTick(0), 7, 'its block needs no further check');
    t.is(readlinkSync(`/proc/self/fd/${object.fd}`), file);
    got?.give();
    object.release();
  }
  const empty = await read(create('empty', Buffer.alloc(0)), 1);
  t.deepEqual([empty.object.length, empty.body], [0, undefined]);
  empty.object.release();
  await waitFor('the descriptors are closed', () => open().length === 0);
  t.is(buffers.allocatedBytes, 0);
});

for (const [what, damage] of [
  ['a wrong sum', (file: string) => flipBit(file, 5)],
  ['a damaged trailer', (file: string) => flipBit(file, body.length + 20)],
  ['a damaged length', (file: string) => flipBit(file, body.length + 10)],
  ['a torn file', (file: string) => truncateSync(file, 30_000)],
  ['a file shorter than a trailer', (file: string) => truncateSync(file, 20)],
  ['a longer file', (file: string) => writeFileSync(file, Buffer.alloc(100_000))],
] as const)
  threaded(`${what} is a damaged object, and neither its descriptor nor its place in the shared memory is lost`, async (t) => {
    const { create, read, open } = await startThread(t);
    const file = create('a', body);
    await damage(file);
    for (let round = 0; round < 40; round += 1) await t.throwsAsync(read(file, 10), { instanceOf: CorruptObjectError });
    await waitFor('the descriptors are closed', () => open().length === 0);
  });

test('a Node without node:ffi, and a shard with the setting false, read cold objects in the thread pool', async (t) => {
  for (const environment of [{ NODE_OPTIONS: '--no-experimental-ffi' }, { KURA_CACHE_READ_THREAD: 'false' }, {}]) {
    const directory = await temporaryDirectory(t);
    const shard = await startCacheProcess(t, { KURA_CACHE_DIRECTORY: directory, KURA_CACHE_OPEN_FILES: '0', ...environment });
    const url = `http://${shard.listening.objects}`;
    await call(url, { method: 'PUT', path: '/objects/a', body });
    for (let round = 0; round < 3; round += 1) t.true((await call(url, { path: '/objects/a' })).body.equals(body));
    if ('NODE_OPTIONS' in environment) await waitFor('the shard logs it', () => shard.output().includes('no thread for cold reads'));
    else t.false(shard.output().includes('"level":"warn"'), shard.output());
    shard.child.kill('SIGTERM');
    t.is(await shard.ended, 0);
  }
});
