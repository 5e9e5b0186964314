/** Receives the body of a PUT from either HTTP edge. */
import type { Key } from '../../shared/key.ts';
import { within } from '../disk/deadline.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import { faultKind } from '../disk/files.ts';
import type { TimeBudget } from '../disk/time-budget.ts';
import { lowest, type SizeLimit } from '../index/catalog.ts';
import { type Condition, ConditionError, RevokedError } from '../store/condition.ts';
import type { Store } from '../store/store.ts';
import { NoRoomError, type Upload } from '../store/upload.ts';
import { DigestCheck, type ExpectedDigest } from './digests.ts';

/**
 * Within these limits, a rejected body is read and dropped before the response. Otherwise an ordinary client that is still sending would
 * report a broken pipe. Beyond the limits the response comes first, and the connection lingers.
 */
const maxDrainBytes = 1024 * 1024 * 1024;
const maxDrainMs = 2_000;
/** After a response in the middle of a body, the shard reads for this time, so that the client gets the response instead of a reset. */
export const lingerMs = 10_000;

interface Put {
  readonly key: Key;
  /** At most `maxObjectBytes`. Undefined for a chunked body. */
  readonly length: number | undefined;
  readonly contentType: string;
  readonly contentEncoding: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod: string;
  readonly maxObjectBytes: number;
  /** The share of its namespace in this shard; undefined if the policy sets none. */
  readonly maxShare: number | undefined;
  readonly digests: readonly ExpectedDigest[];
  readonly condition: Condition | undefined;
}

type PutOutcome =
  | { readonly kind: 'stored'; readonly tag: string }
  /** The response is that of `stored`, with `x-kura-stored: no`. */
  | { readonly kind: 'not-kept' }
  | { readonly kind: 'too-large'; readonly limit: SizeLimit }
  | { readonly kind: 'refused'; readonly code: 'no-room' | 'disk-fault' | 'digest-mismatch' | 'precondition-failed' };

interface ReceiveOptions {
  readonly store: Store;
  readonly put: Put;
  /** A fill of the key is in progress. */
  readonly isFilling: boolean;
  /** Throws if the client disconnects or stalls. The HTTP edge checks the announced length. */
  readonly body: AsyncIterable<Buffer>;
  readonly health: FaultSink;
  readonly budget: TimeBudget;
}

/** Rejects only with an error of `body`. With the outcome `refused`, the rest of the body is unread. */
export async function receivePut({ store, put, isFilling, body, health, budget }: ReceiveOptions): Promise<PutOutcome> {
  const begun = store.begin({ ...put, origin: '', originVersion: '' });
  switch (begun.kind) {
    case 'too-large':
      return begun;
    case 'no-room':
      return { kind: 'refused', code: begun.kind };
    case 'not-kept':
      return receiveNothing({ store, put, isFilling, body, health, budget });
    case 'upload':
      break;
    default:
      return begun satisfies never;
  }
  const { upload } = begun;
  const limit = lowest({ maxBytes: put.maxObjectBytes, setBy: 'policy' }, begun.limit);
  const digests = new DigestCheck(put.digests);
  let isFinished = false;
  try {
    for await (const chunk of body) {
      if (upload.receivedBytes + chunk.length > limit.maxBytes) return { kind: 'too-large', limit };
      digests.update(chunk);
      const fault = await settle(upload.write(chunk), budget.writeMs);
      if (fault !== undefined) return refuse(fault.error, health);
    }
    if (!digests.holds()) return { kind: 'refused', code: 'digest-mismatch' };
    isFinished = true;
    const written = await within(budget.commitMs, store.commit(upload, put.condition));
    return { kind: 'stored', tag: written.tag };
  } catch (error) {
    // The HTTP edge handles errors of the body.
    if (!isFinished) throw error;
    // A removal that came after the start of the upload removes it too.
    if (error instanceof RevokedError) return { kind: 'not-kept' };
    upload.isAbandoned = true;
    return refuse(error, health);
  } finally {
    // A hung disk must not delay the response.
    if (!isFinished) void upload.abort();
  }
}

/** Reads and drops a body within the limits. Resolves with true at its end, with false at a limit. Rejects with an error of the body. */
export async function drain(body: AsyncIterable<Buffer>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => late.resolve(false), maxDrainMs);
  // After the time limit the loop keeps reading in the background, until the connection ends.
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

/** Drops the body and removes the stored object before the response, so that no later GET returns the old bytes. */
async function receiveNothing({ store, put, isFilling, body, health, budget }: ReceiveOptions): Promise<PutOutcome> {
  const digests = new DigestCheck(put.digests);
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    digests.update(chunk);
    if (bytes > put.maxObjectBytes) return { kind: 'too-large', limit: { maxBytes: put.maxObjectBytes, setBy: 'policy' } };
  }
  if (!digests.holds()) return { kind: 'refused', code: 'digest-mismatch' };
  try {
    await within(budget.commitMs, store.remove(put.key, put.condition));
    // As for a DELETE: the fill may have been given its name meanwhile.
    if (isFilling && put.condition === undefined) await within(budget.commitMs, store.remove(put.key));
  } catch (error) {
    return refuse(error, health);
  }
  return { kind: 'not-kept' };
}
