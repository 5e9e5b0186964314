/** Reads the trailer of an object file, without its body and its block sums. */
import type { Files } from '../disk/files.ts';
import { decodeTrailer, maxTailBytes, type Trailer } from '../disk/trailer.ts';
import { fileBlockBytes } from '../index/space.ts';
import { CorruptObjectError } from './open-object.ts';

interface ReadTrailerOptions {
  readonly files: Files;
  readonly path: string;
  /** Size of the file in blocks of 4 KiB, if the index knows it. It saves an fstat(2). */
  readonly blocks: number | undefined;
  /** Whether the file still has its name. Closing the last descriptor of a removed file frees its blocks, which takes time. */
  readonly isStored: () => boolean;
}

/** Throws CorruptObjectError or the system error. */
export async function readTrailer({ files, path, blocks, isStored }: ReadTrailerOptions): Promise<Trailer> {
  const fd = await files.open(path, 'r');
  try {
    // The end of the file is somewhere in its last block. A read of one byte more shows whether the file is longer than expected.
    const maxBytes = blocks === undefined ? await files.size(fd) : blocks * fileBlockBytes;
    const from = Math.max(0, maxBytes - maxTailBytes - (blocks === undefined ? 0 : fileBlockBytes));
    const tail = Buffer.allocUnsafe(maxBytes - from + 1);
    const got = await files.read(fd, tail, 0, tail.length, from);
    const trailer = got < tail.length ? decodeTrailer(tail.subarray(0, got), from + got) : undefined;
    if (trailer === undefined) throw new CorruptObjectError('the trailer is damaged');
    return trailer;
  } finally {
    if (isStored()) files.closeSync(fd);
    else files.close(fd);
  }
}
