/** Reads the trailer of an object file, without its body and its block sums. */
import type { Files } from '../disk/files.ts';
import { decodeTrailer, maxTailBytes, type Trailer } from '../disk/trailer.ts';
import { CorruptObjectError } from './open-object.ts';

/** Throws CorruptObjectError or the system error. */
export async function readTrailer(files: Files, path: string): Promise<Trailer> {
  const fd = await files.open(path, 'r');
  try {
    const sizeBytes = await files.size(fd);
    const tail = Buffer.allocUnsafe(Math.min(sizeBytes, maxTailBytes));
    const got = await files.read(fd, tail, 0, tail.length, sizeBytes - tail.length);
    const trailer = got === tail.length ? decodeTrailer(tail, sizeBytes) : undefined;
    if (trailer === undefined) throw new CorruptObjectError('the trailer is damaged');
    return trailer;
  } finally {
    // Another request may have removed the file meanwhile. The last close of a removed file frees its blocks, which takes time.
    files.close(fd);
  }
}
