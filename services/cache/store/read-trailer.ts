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
  if (blocks !== undefined) {
    const { from, length } = tailOf(blocks);
    const tail = await files.readTail?.(path, from, length);
    if (tail !== undefined) return decode(tail, { from, length });
  }
  const fd = await files.open(path, 'r');
  try {
    const { from, length } = blocks === undefined ? endOf(await files.size(fd)) : tailOf(blocks);
    const tail = Buffer.allocUnsafe(length);
    const got = await files.read(fd, tail, 0, length, from);
    return decode(tail.subarray(0, got), { from, length });
  } finally {
    if (isStored()) files.closeSync(fd);
    else files.close(fd);
  }
}

interface Range {
  readonly from: number;
  readonly length: number;
}

/** The end of the file is somewhere in its last block. */
function tailOf(blocks: number): Range {
  return rangeFrom(blocks * fileBlockBytes, maxTailBytes + fileBlockBytes);
}

function endOf(fileBytes: number): Range {
  return rangeFrom(fileBytes, maxTailBytes);
}

/** A read of one byte more shows whether the file is longer than expected. */
function rangeFrom(maxBytes: number, tailBytes: number): Range {
  const from = Math.max(0, maxBytes - tailBytes);
  return { from, length: maxBytes - from + 1 };
}

function decode(tail: Buffer, { from, length }: Range): Trailer {
  const trailer = tail.length < length ? decodeTrailer(tail, from + tail.length) : undefined;
  if (trailer === undefined) throw new CorruptObjectError('the trailer is damaged');
  return trailer;
}
