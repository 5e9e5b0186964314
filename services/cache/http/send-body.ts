/** Sends bytes of an object to one client, in constant memory, at the rate of the client. */
import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { DiskTimeoutError } from '../disk/deadline.ts';
import { blockBytes } from '../disk/trailer.ts';
import type { Growth } from '../fill/growth.ts';
import { type BufferPool, maxWriteBytes } from '../store/buffer-pool.ts';
import type { OpenObject } from '../store/open-object.ts';
import type { Reader } from '../store/reader.ts';

/** Limit for the wait for a buffer. After it, the request is a miss. */
const bufferLimitMs = 400;

/** The client stalled or disconnected. */
class ReaderGoneError extends Error {
  readonly code = 'READER_GONE';
}

export interface SendBodyOptions {
  readonly object: OpenObject;
  readonly start: number;
  readonly end: number;
  readonly to: Writable;
  /** The response head. It is sent in the same write as the first piece, after the check of that piece. */
  readonly head: Buffer | undefined;
  readonly reader: Reader;
  readonly buffers: BufferPool;
  /** Deadline for the read of the first piece, on the clock of performance.now(). */
  readonly deadlineMs: number;
  readonly timeoutMs: number;
  /** Limit for each read after the start of the response. */
  readonly readMs: number;
  /** Where the bytes of an object that still grows come from, before its file. */
  readonly growth?: Pick<Growth, 'waitFor' | 'copy'>;
}

/**
 * Resolves when the system has the last byte. If the first piece cannot be read in time, it rejects before it calls `beforeFirst` and
 * before it writes anything.
 */
export async function sendBody(options: SendBodyOptions, beforeFirst: () => void): Promise<void> {
  const { object, start, end, to, reader, buffers, timeoutMs, growth } = options;
  if (growth === undefined && (await sendLoaded(options, beforeFirst))) return;
  const headBytes = options.head?.length ?? 0;
  const first = object.nextPiece(start, end);
  // One buffer serves the whole transfer, so that a started transfer never waits for another buffer.
  const ownBytes = first.to >= end ? headBytes + first.to - first.from : headBytes + blockBytes;
  const own = await buffers.take(ownBytes, Math.min(bufferLimitMs, options.deadlineMs - performance.now()));
  let unfinished: Promise<void> | undefined;
  try {
    for (let at = start; at < end; ) {
      if (growth !== undefined) await growth.waitFor(at + 1);
      const warmEnd = reader.warmEnd(object, { from: at, to: Math.min(end, at + maxWriteBytes) });
      const isLong = warmEnd > object.nextPiece(at, end).to;
      const spare = isLong ? buffers.trySpare(headBytes + warmEnd - at) : undefined;
      try {
        const piece =
          copyPiece(options, at, own) ??
          (warmEnd > at ? readWarm(options, { at, warmEnd }, { own, spare }) : await readCold(options, at, own));
        // No await between a warm read and its write: the bytes are still in the cache of the CPU.
        if (at === start) beforeFirst();
        at = piece.end;
        await writeWithin(to, piece.bytes, timeoutMs);
      } finally {
        if (spare !== undefined) buffers.give(spare);
      }
    }
  } catch (error) {
    if (error instanceof DiskTimeoutError) unfinished = error.ended;
    throw error;
  } finally {
    if (unfinished === undefined) buffers.give(own);
    else keepUntil(unfinished, options, own);
  }
}

/** A late read still writes into its buffer. */
function keepUntil(ended: Promise<void>, { object, buffers }: SendBodyOptions, buffer: Buffer): void {
  object.acquire();
  void ended.then(() => {
    buffers.give(buffer);
    object.release();
  });
}

/** Sends the whole body from memory if it was read with the trailer. Otherwise resolves with false. */
async function sendLoaded({ object, start, end, head, to, reader, timeoutMs }: SendBodyOptions, beforeFirst: () => void): Promise<boolean> {
  const loaded = start === 0 && end === object.length ? reader.takeLoaded(object) : undefined;
  if (loaded === undefined) return false;
  try {
    const offset = loaded.offset - (head?.length ?? 0);
    if (offset < 0) return false;
    beforeFirst();
    head?.copy(loaded.buffer, offset);
    await writeWithin(to, loaded.buffer.subarray(offset, loaded.offset + end), timeoutMs);
    return true;
  } finally {
    loaded.give();
  }
}

interface ReadPiece {
  readonly bytes: Buffer;
  /** The position in the object after these bytes. */
  readonly end: number;
}

/** Copies the bytes from `at` to the end of their block, if the object still grows and the block is in memory. */
function copyPiece({ start, end, head, growth }: SendBodyOptions, at: number, buffer: Buffer): ReadPiece | undefined {
  if (growth === undefined) return undefined;
  const to = Math.min(end, (Math.floor(at / blockBytes) + 1) * blockBytes);
  const offset = (at === start ? head?.copy(buffer) : undefined) ?? 0;
  return growth.copy({ from: at, to }, buffer, offset) ? { bytes: buffer.subarray(0, offset + to - at), end: to } : undefined;
}

/** Reads the warm bytes from `at` with one call: up to `warmEnd` into a spare buffer, otherwise up to the end of the block. */
function readWarm(
  { object, start, end, head, reader }: SendBodyOptions,
  { at, warmEnd }: { at: number; warmEnd: number },
  { own, spare }: { own: Buffer; spare: Buffer | undefined },
): ReadPiece {
  const buffer = spare ?? own;
  const to = spare === undefined ? Math.min(warmEnd, object.nextPiece(at, end).to) : warmEnd;
  const offset = (at === start ? head?.copy(buffer) : undefined) ?? 0;
  reader.readNow(object, { from: at, to }, buffer, offset);
  return { bytes: buffer.subarray(0, offset + to - at), end: to };
}

/** Reads the next piece in the thread pool. */
async function readCold(options: SendBodyOptions, at: number, buffer: Buffer): Promise<ReadPiece> {
  const { object, start, end, reader, deadlineMs, readMs } = options;
  const head = at === start ? options.head : undefined;
  const piece = object.nextPiece(at, end);
  const offset = head?.length ?? 0;
  await reader.readFromPool(object, piece, buffer, { offset, limitMs: at === start ? deadlineMs - performance.now() : readMs });
  const stop = Math.min(piece.to, end);
  // The head goes directly before the first requested byte. A block that is checked whole may start earlier.
  const first = at - piece.from;
  head?.copy(buffer, first);
  return { bytes: buffer.subarray(first, offset + stop - piece.from), end: stop };
}

/**
 * Resolves when the system has all bytes. Node drops the callback of a write to a response that its connection cannot take any more, or
 * not yet, and then ends without it.
 */
export function writeWithin(to: Writable & { readonly socket?: Socket | null }, bytes: Buffer, timeoutMs: number): Promise<void> {
  if (to.socket?.writable === false) return Promise.reject(new ReaderGoneError('the client disconnected'));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      const stalled = new ReaderGoneError('the client stalled');
      to.destroy(stalled);
      // One turn later, the system does not read the bytes any more.
      setImmediate(() => setImmediate(reject, stalled));
    }, timeoutMs);
    to.write(bytes, (error) => {
      clearTimeout(timer);
      if (error == null) resolve();
      else reject(new ReaderGoneError('the client disconnected', { cause: error }));
    });
  });
}
