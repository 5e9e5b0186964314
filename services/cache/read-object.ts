/** Opens an object file and checks what says what it is. */
import type { BufferPool } from './buffers.ts';
import type { Files } from './files.ts';
import { CorruptObjectError, OpenObject } from './open-object.ts';
import { blockBytes, decodeSums, decodeTrailer, maxTailBytes, type Trailer } from './trailer.ts';

export interface ReadObjectOptions {
  readonly files: Files;
  readonly buffers: BufferPool;
  readonly path: string;
}

/**
 * Opens, reads the trailer, and for an object of one block the body too, in the same read: a cold small object then costs one trip to the disk.
 * Throws CorruptObjectError, or the system's error.
 */
export async function readObject({ files, buffers, path }: ReadObjectOptions): Promise<OpenObject> {
  const fd = await files.open(path, 'r');
  let buffer: Buffer | undefined;
  try {
    const sizeBytes = await files.size(fd);
    const tailBytes = Math.min(sizeBytes, sizeBytes <= blockBytes + maxTailBytes ? sizeBytes : blockBytes);
    buffer = await buffers.take(tailBytes);
    const got = await files.read(fd, buffer, 0, tailBytes, sizeBytes - tailBytes);
    if (got !== tailBytes) throw new CorruptObjectError('the file is shorter than its size');
    const tail = buffer.subarray(0, tailBytes);
    const trailer = decodeTrailer(tail, sizeBytes);
    if (trailer === undefined) throw new CorruptObjectError('the trailer is damaged');
    const sums = decodeSums(await readSums({ files, fd, trailer, tail, sizeBytes }), trailer);
    if (sums === undefined) throw new CorruptObjectError('the sums are damaged');
    const object = new OpenObject({ trailer, sums, fd, row: 0, close: () => files.close(fd) });
    if (tailBytes === sizeBytes && trailer.length > 0 && trailer.length <= blockBytes) {
      object.check(tail.subarray(0, trailer.length), 0);
      object.isJustRead = true;
    }
    return object;
  } catch (error) {
    files.close(fd);
    throw error;
  } finally {
    if (buffer !== undefined) buffers.give(buffer);
  }
}

async function readSums(options: { files: Files; fd: number; trailer: Trailer; tail: Buffer; sizeBytes: number }): Promise<Buffer> {
  const { files, fd, trailer, tail, sizeBytes } = options;
  const at = tail.length - trailer.trailerBytes;
  if (at >= 0) return tail.subarray(at, at + trailer.sumsBytes);
  const sums = Buffer.allocUnsafe(trailer.sumsBytes);
  const got = await files.read(fd, sums, 0, sums.length, sizeBytes - trailer.trailerBytes);
  if (got !== sums.length) throw new CorruptObjectError('the file is shorter than its size');
  return sums;
}
