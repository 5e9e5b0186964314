/** Takes one PUT's body in, whatever connection it comes from. */

import type { Key } from '../../shared/key.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import { faultKind } from '../disk/files.ts';
import type { Store } from '../store/store.ts';
import { NoRoomError, type Upload } from '../store/upload.ts';

/** A refused body is read and dropped up to this before the answer: ordinary clients that are still sending would otherwise see a broken pipe. */
const maxDrainBytes = 64 * 1024 * 1024;

interface Put {
  readonly key: Key;
  /** Undefined for a chunked body. */
  readonly length: number | undefined;
  readonly contentType: string;
  readonly namespace: string;
  readonly maxObjectBytes: number;
  /** The part of this shard that its namespace may have; undefined when the policy sets none. */
  readonly maxShare: number | undefined;
}

type PutOutcome =
  | { readonly kind: 'stored'; readonly tag: string }
  /** Answered like `stored`, with `x-kura-stored: no`. */
  | { readonly kind: 'not-kept' }
  | { readonly kind: 'refused'; readonly code: 'too-large' | 'no-room' | 'disk-fault' };

interface ReceiveOptions {
  readonly store: Store;
  readonly put: Put;
  /** Throws when the sender goes away, stalls or breaks off; the number of bytes is checked by its maker. */
  readonly body: AsyncIterable<Buffer>;
  readonly health: FaultSink;
}

/** Rejects only with what `body` throws. When it refuses, the rest of the body has not been read. */
export async function receivePut({ store, put, body, health }: ReceiveOptions): Promise<PutOutcome> {
  if (put.length !== undefined && put.length > put.maxObjectBytes) return { kind: 'refused', code: 'too-large' };
  const begun = store.begin(put);
  switch (begun.kind) {
    case 'too-large':
    case 'no-room':
      return { kind: 'refused', code: begun.kind };
    case 'not-kept':
      return receiveNothing({ store, put, body });
    case 'upload':
      break;
    default:
      return begun satisfies never;
  }
  const { upload } = begun;
  const maxBytes = Math.min(put.maxObjectBytes, begun.maxBytes);
  let isCommitted = false;
  try {
    for await (const chunk of body) {
      if (upload.receivedBytes + chunk.length > maxBytes) return { kind: 'refused', code: 'too-large' };
      const fault = await settle(upload.write(chunk));
      if (fault !== undefined) return refuse(fault.error, health);
    }
    const written = await store.commit(upload).catch((error: unknown) => ({ error }));
    if ('error' in written) return refuse(written.error, health);
    isCommitted = true;
    return { kind: 'stored', tag: written.tag };
  } finally {
    if (!isCommitted) await upload.abort();
  }
}

/** Reads and drops up to `maxDrainBytes`; true when that was all. */
export async function drain(body: AsyncIterable<Buffer>): Promise<boolean> {
  let dropped = 0;
  for await (const chunk of body) {
    dropped += chunk.length;
    if (dropped > maxDrainBytes) return false;
  }
  return true;
}

async function settle(work: ReturnType<Upload['write']>): Promise<{ error: unknown } | undefined> {
  try {
    if (work !== undefined) await work;
    return undefined;
  } catch (error) {
    return { error };
  }
}

function refuse(error: unknown, health: FaultSink): PutOutcome {
  if (error instanceof NoRoomError) return { kind: 'refused', code: 'no-room' };
  health.note(error, 'write');
  return { kind: 'refused', code: faultKind(error) === 'full' ? 'no-room' : 'disk-fault' };
}

/** The older object goes before the answer, so that the next GET can miss but never gives the old bytes. */
async function receiveNothing({ store, put, body }: Pick<ReceiveOptions, 'store' | 'put' | 'body'>): Promise<PutOutcome> {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > put.maxObjectBytes) return { kind: 'refused', code: 'too-large' };
  }
  try {
    await store.remove(put.key);
  } catch {
    return { kind: 'refused', code: 'disk-fault' };
  }
  return { kind: 'not-kept' };
}
