/** Opens an object file and checks its trailer and block sums. */
import type { Key } from '../../shared/key.ts';
import type { WholeFile } from '../disk/file-reader.ts';
import { type Files, faultKind } from '../disk/files.ts';
import { headRoomBytes, maxWholeBytes } from '../disk/read-jobs.ts';
import { blockBytes, decodeSums, decodeTrailer, type Trailer } from '../disk/trailer.ts';
import { noRow } from '../index/object-index.ts';
import { fileBlockBytes } from '../index/space.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { LoadedBody } from './loaded-bodies.ts';
import { CorruptObjectError, OpenObject } from './open-object.ts';

interface ReadObjectOptions {
  readonly files: Files;
  readonly buffers: BufferPool;
  readonly path: string;
  /** Size of the file in blocks of 4 KiB, if the index knows it. It saves an fstat(2). */
  readonly blocks: number | undefined;
  /** The current step of the clock. */
  readonly tick: number;
}

/** How long an open waits for a buffer. */
const bufferLimitMs = 400;

interface ReadObject {
  readonly object: OpenObject;
  /** The body of an object of one block. The caller gives its buffer back. */
  readonly body: LoadedBody | undefined;
}

/**
 * Opens a file and reads its trailer. For an object of one block, the same read gets the body, so a cold small object needs one disk
 * access. Throws CorruptObjectError or the system error.
 */
export async function readObject(options: ReadObjectOptions): Promise<ReadObject> {
  const { files, path, blocks } = options;
  // A read of one byte more shows whether the file is longer than the index expects.
  const known = blocks !== undefined && blocks * fileBlockBytes <= maxWholeBytes ? blocks * fileBlockBytes : undefined;
  const file = known === undefined ? undefined : await files.readWhole?.(path, known + 1);
  return file === undefined || known === undefined ? await readInPool(options, known) : acceptWhole(options, file, known);
}

/** Checks a file that was read in the thread (file-reader.ts). */
function acceptWhole({ files, tick }: ReadObjectOptions, file: WholeFile, known: number): ReadObject {
  const { fd, buffer, offset, bytes, bodySum } = file;
  let isKept = false;
  try {
    if (bytes > known) throw wrongSize();
    const tail = buffer.subarray(offset, offset + bytes);
    const trailer = requireTrailer(tail, bytes);
    const object = openObject(files, fd, trailer, tail.subarray(trailer.length, trailer.length + trailer.sumsBytes));
    if (isOneBlock(trailer)) {
      object.acceptSum(bodySum, tick);
      isKept = true;
    }
    return { object, body: isKept ? file : undefined };
  } catch (error) {
    files.close(fd);
    throw error;
  } finally {
    if (!isKept) file.give();
  }
}

async function readInPool({ files, buffers, path, tick }: ReadObjectOptions, known: number | undefined): Promise<ReadObject> {
  const fd = await files.open(path, 'r');
  let buffer: Buffer | undefined;
  let isKept = false;
  try {
    const taken = await buffers.take(blockBytes + headRoomBytes, bufferLimitMs);
    buffer = taken;
    const asked = known === undefined ? await files.size(fd) : known + 1;
    const from = known !== undefined || asked <= maxWholeBytes ? 0 : asked - blockBytes;
    const got = await files.read(fd, taken, headRoomBytes, asked - from, from);
    if (known === undefined ? got !== asked - from : got > known) throw wrongSize();
    const sizeBytes = from + got;
    const tail = taken.subarray(headRoomBytes, headRoomBytes + got);
    const trailer = requireTrailer(tail, sizeBytes);
    const object = openObject(files, fd, trailer, await readSums({ files, fd, trailer, tail, sizeBytes }));
    if (from === 0 && isOneBlock(trailer)) {
      object.accept(tail.subarray(0, trailer.length), 0, tick);
      isKept = true;
    }
    return { object, body: isKept ? { buffer: taken, offset: headRoomBytes, give: () => buffers.give(taken) } : undefined };
  } catch (error) {
    files.close(fd);
    throw error;
  } finally {
    if (!isKept && buffer !== undefined) buffers.give(buffer);
  }
}

function requireTrailer(tail: Buffer, sizeBytes: number): Trailer {
  const trailer = decodeTrailer(tail, sizeBytes);
  if (trailer === undefined) throw new CorruptObjectError('the trailer is damaged');
  return trailer;
}

function openObject(files: Files, fd: number, trailer: Trailer, sumBytes: Buffer): OpenObject {
  const sums = decodeSums(sumBytes, trailer);
  if (sums === undefined) throw new CorruptObjectError('the block sums are damaged');
  const close = (isStored: boolean) => (isStored ? files.closeSync(fd) : files.close(fd));
  return new OpenObject({ trailer, sums, fd, row: noRow, close });
}

function isOneBlock({ length }: Trailer): boolean {
  return length > 0 && length <= blockBytes;
}

function wrongSize(): CorruptObjectError {
  return new CorruptObjectError('the file does not have the expected size');
}

type FileCheck =
  | { readonly kind: 'whole'; readonly key: Key; readonly namespace: string; readonly fileBytes: number }
  | { readonly kind: 'damaged' }
  | { readonly kind: 'absent' };

/** Reads a whole file and checks every block. Rejects if the disk cannot read it, because that does not prove damage. */
export async function checkFile(options: ReadObjectOptions): Promise<FileCheck> {
  let object: OpenObject | undefined;
  try {
    const read = await readObject(options);
    object = read.object;
    // readObject has checked a body of one block.
    if (read.body !== undefined) read.body.give();
    else await checkBlocks(object, options);
    return { kind: 'whole', key: object.key, namespace: object.namespace, fileBytes: object.fileBytes };
  } catch (error) {
    if (error instanceof CorruptObjectError) return { kind: 'damaged' };
    if (faultKind(error) === 'absent') return { kind: 'absent' };
    throw error;
  } finally {
    object?.release();
  }
}

async function checkBlocks(object: OpenObject, { files, buffers, tick }: ReadObjectOptions): Promise<void> {
  for (let at = 0; at < object.length; ) {
    const { from, to } = object.nextPiece(at, object.length);
    const buffer = await buffers.take(to - from, bufferLimitMs);
    try {
      const got = await files.read(object.fd, buffer, 0, to - from, from);
      if (got !== to - from) throw new CorruptObjectError('the file is shorter than its trailer states');
      object.accept(buffer.subarray(0, got), from, tick);
    } finally {
      buffers.give(buffer);
    }
    at = to;
  }
}

async function readSums(options: { files: Files; fd: number; trailer: Trailer; tail: Buffer; sizeBytes: number }): Promise<Buffer> {
  const { files, fd, trailer, tail, sizeBytes } = options;
  const at = tail.length - trailer.trailerBytes;
  if (at >= 0) return tail.subarray(at, at + trailer.sumsBytes);
  const sums = Buffer.allocUnsafe(trailer.sumsBytes);
  const got = await files.read(fd, sums, 0, sums.length, sizeBytes - trailer.trailerBytes);
  if (got !== sums.length) throw new CorruptObjectError('the file became shorter during the read');
  return sums;
}
