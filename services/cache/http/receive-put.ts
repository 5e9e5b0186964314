/** Takes one PUT's body in, whatever connection it comes from. */

import type { Key } from '../../shared/key.ts';
import { within } from '../disk/deadline.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import { faultKind } from '../disk/files.ts';
import type { TimeBudget } from '../disk/time-budget.ts';
import { type Condition, ConditionError, type Store } from '../store/store.ts';
import { NoRoomError, type Upload } from '../store/upload.ts';
import { DigestCheck, type ExpectedDigest } from './digests.ts';

/**
 * A refused body is read and dropped within these limits before the response: ordinary clients that are still sending would otherwise see a broken pipe. Beyond them the
 * response comes first, and the connection lingers.
 */
const maxDrainBytes = 1024 * 1024 * 1024;
const maxDrainMs = 2_000;
/** How long a connection that was answered in the middle of a body is read further, so that its client gets the response instead of a reset. */
export const lingerMs = 10_000;

interface Put {
  readonly key: Key;
  /** Undefined for a chunked body. */
  readonly length: number | undefined;
  readonly contentType: string;
  readonly contentEncoding: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod: string;
  readonly maxObjectBytes: number;
  /** The part of this shard that its namespace may have; undefined when the policy sets none. */
  readonly maxShare: number | undefined;
  readonly digests: readonly ExpectedDigest[];
  readonly condition: Condition | undefined;
}

type PutOutcome =
  | { readonly kind: 'stored'; readonly tag: string }
  /** Answered like `stored`, with `x-kura-stored: no`. */
  | { readonly kind: 'not-kept' }
  | { readonly kind: 'refused'; readonly code: 'too-large' | 'no-room' | 'disk-fault' | 'digest-mismatch' | 'precondition-failed' };

interface ReceiveOptions {
  readonly store: Store;
  readonly put: Put;
  /** Throws when the sender goes away, stalls or breaks off; the number of bytes is checked by its maker. */
  readonly body: AsyncIterable<Buffer>;
  readonly health: FaultSink;
  readonly budget: TimeBudget;
}

/** Rejects only with what `body` throws. When it refuses, the rest of the body has not been read. */
export async function receivePut({ store, put, body, health, budget }: ReceiveOptions): Promise<PutOutcome> {
  if (put.length !== undefined && put.length > put.maxObjectBytes) return { kind: 'refused', code: 'too-large' };
  const begun = store.begin(put);
  switch (begun.kind) {
    case 'too-large':
    case 'no-room':
      return { kind: 'refused', code: begun.kind };
    case 'not-kept':
      return receiveNothing({ store, put, body, health, budget });
    case 'upload':
      break;
    default:
      return begun satisfies never;
  }
  const { upload } = begun;
  const maxBytes = Math.min(put.maxObjectBytes, begun.maxBytes);
  const digests = new DigestCheck(put.digests);
  let isFinished = false;
  try {
    for await (const chunk of body) {
      if (upload.receivedBytes + chunk.length > maxBytes) return { kind: 'refused', code: 'too-large' };
      digests.update(chunk);
      const fault = await settle(upload.write(chunk), budget.writeMs);
      if (fault !== undefined) return refuse(fault.error, health);
    }
    if (!digests.holds()) return { kind: 'refused', code: 'digest-mismatch' };
    isFinished = true;
    const written = await within(budget.commitMs, store.commit(upload, put.condition));
    return { kind: 'stored', tag: written.tag };
  } catch (error) {
    // What the body throws is for the edge.
    if (!isFinished) throw error;
    upload.isAbandoned = true;
    return refuse(error, health);
  } finally {
    // A disk that hangs must not hold the response back.
    if (!isFinished) void upload.abort();
  }
}

/** Reads and drops a body within the limits; true when that was all of it. Rejects with what the body throws. */
export async function drain(body: AsyncIterable<Buffer>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => late.resolve(false), maxDrainMs);
  // After the time limit the loop keeps reading behind the response, until the connection ends.
  return await Promise.race([discard(body), late.promise]).finally(() => clearTimeout(timer));
}

async function discard(body: AsyncIterable<Buffer>): Promise<boolean> {
  let dropped = 0;
  for await (const chunk of body) {
    dropped += chunk.length;
    if (dropped > maxDrainBytes) return false;
  }
  return true;
}

async function settle(work: ReturnType<Upload['write']>, limitMs: number): Promise<{ error: unknown } | undefined> {
  try {
    if (work !== undefined) await within(limitMs, work);
    return undefined;
  } catch (error) {
    return { error };
  }
}

function refuse(error: unknown, health: FaultSink): PutOutcome {
  if (error instanceof NoRoomError) return { kind: 'refused', code: 'no-room' };
  if (error instanceof ConditionError) return { kind: 'refused', code: 'precondition-failed' };
  health.note(error, 'write');
  return { kind: 'refused', code: faultKind(error) === 'full' ? 'no-room' : 'disk-fault' };
}

/** The older object goes before the answer, so that the next GET can miss but never gives the old bytes. */
async function receiveNothing({ store, put, body, health, budget }: ReceiveOptions): Promise<PutOutcome> {
  const digests = new DigestCheck(put.digests);
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    digests.update(chunk);
    if (bytes > put.maxObjectBytes) return { kind: 'refused', code: 'too-large' };
  }
  if (!digests.holds()) return { kind: 'refused', code: 'digest-mismatch' };
  try {
    await within(budget.commitMs, store.remove(put.key, put.condition));
  } catch (error) {
    return refuse(error, health);
  }
  return { kind: 'not-kept' };
}
