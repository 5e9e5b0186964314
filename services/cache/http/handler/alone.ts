/** Fetches an object or a range from the origin for one request, without storing it. Each fetch has a slot of the fill bounds. */
import type { Result } from '../../counters.ts';
import type { FillRequest } from '../../fill/fill.ts';
import type { Fills } from '../../fill/fills.ts';
import type { OriginFault, OriginObject } from '../../fill/origin-client.ts';
import { bodyRoute, type ObjectRequest } from '../object-request.ts';
import { writeWithin } from '../send-body.ts';
import type { ObjectService } from '../service.ts';
import { bodyHead, planFilled, refuseFault, replyWithout } from './filled-reply.ts';
import type { BodySink, Reply } from './reply.ts';

/** A request whose object is fetched from its origin. */
export interface PartCall {
  readonly service: ObjectService;
  readonly fills: Fills;
  readonly request: ObjectRequest;
  readonly reply: Reply;
  readonly wanted: FillRequest;
  /** Deadline for the first byte, on the clock of performance.now(). */
  readonly untilMs: number;
  /** `wait`: another request has started the fill. */
  readonly role: 'fill' | 'wait';
}

/** The object at the origin, as the fill has found it. */
interface Found {
  readonly length: number;
  readonly contentType: string;
  readonly tag: string | undefined;
}

interface Slice {
  readonly kind: 'whole' | 'part';
  readonly start: number;
  readonly end: number;
}

/** An open body whose bytes after the first `skip` are wanted. */
interface OpenPart {
  readonly kind: 'part';
  readonly object: OriginObject;
  readonly skip: number;
  readonly leave: () => void;
}

/**
 * For an object that the shard does not store. `taken` is the body that the fill has opened. Resolves with `again` if the object has changed
 * at the origin since then.
 */
export async function sendAlone(
  call: PartCall,
  found: Found,
  taken: { readonly object: OriginObject; readonly leave: () => void } | undefined,
): Promise<Result | 'again'> {
  const plan = planFilled(call.request, found.length);
  const isTaken = taken !== undefined && plan.kind === 'whole';
  if (taken !== undefined && !isTaken) drop(taken);
  if (plan.kind !== 'whole' && plan.kind !== 'part') return await replyWithout(call, plan, found);
  const part: OpenPart | { readonly kind: OriginFault } = isTaken ? { kind: 'part', skip: 0, ...taken } : await open(call, found, plan);
  if (part.kind === 'changed') return 'again';
  if (part.kind !== 'part') return await refuseFault(call.reply, part.kind);
  return await send(call, { ...found, isUnstored: true }, plan, part);
}

/** For a range far ahead of the fill. Resolves with undefined if the origin cannot send it now: then the request waits for the fill. */
export async function fetchPart(call: PartCall, plan: Slice, found: Found): Promise<Result | undefined> {
  const part = await open(call, found, plan);
  if (part.kind !== 'part') return undefined;
  if (part.skip > 0) {
    drop(part);
    return undefined;
  }
  return await send(call, found, plan, part);
}

function drop({ object, leave }: Pick<OpenPart, 'object' | 'leave'>): void {
  object.body.destroy();
  leave();
}

async function open(
  { fills, wanted, untilMs }: PartCall,
  found: Found,
  { kind, start, end }: Slice,
): Promise<OpenPart | { kind: OriginFault }> {
  const slot = fills.enter(wanted);
  if (slot === undefined) return { kind: 'busy' };
  const range = kind === 'part' && end > start ? { first: start, last: end - 1 } : undefined;
  const limitMs = untilMs - performance.now();
  const object = await fills.origin.open({ method: 'GET', key: wanted.key, fill: wanted.fill, range, tag: found.tag, limitMs });
  const leave = () => slot.leave();
  if (object.kind !== 'object') {
    leave();
    return object;
  }
  const part = { kind: 'part', object, skip: start - (object.first ?? 0), leave } as const;
  const isSame = object.length === found.length && object.tag === found.tag && part.skip >= 0;
  if (isSame && slot.addBytes(end - start)) return part;
  drop(part);
  return { kind: isSame ? 'busy' : 'changed' };
}

async function send(
  call: PartCall,
  found: Found & { readonly isUnstored?: boolean },
  plan: Slice,
  { object, skip, leave }: OpenPart,
): Promise<Result> {
  const { reply, service, fills, request, role } = call;
  const late = setTimeout(() => object.body.destroy(), Math.max(0, call.untilMs - performance.now()));
  let isBegun = false;
  try {
    const [status, fields] = bodyHead(call, plan, found);
    if (plan.start === plan.end) reply.send(status, fields);
    else {
      const sink = reply.stream(status, fields);
      const begin = () => {
        clearTimeout(late);
        isBegun = true;
        sink.begin();
      };
      const bytes = plan.end - plan.start;
      await sendOriginBody(object, { skip, bytes, timeoutMs: service.readerTimeoutMs, sink, begin });
      fills.receivedBytes += bytes;
      service.counters.sent[bodyRoute(request)] += bytes;
      sink.end();
    }
    return role === 'fill' ? 'filled' : 'waited';
  } catch (error) {
    if (isBegun) throw error;
    return await refuseFault(reply, 'failed');
  } finally {
    clearTimeout(late);
    drop({ object, leave });
  }
}

interface SendOptions {
  readonly skip: number;
  readonly bytes: number;
  readonly timeoutMs: number;
  readonly sink: BodySink;
  readonly begin: () => void;
}

/** Sends each piece before it reads the next one, so a slow client slows down the origin. Rejects if the body is too short. */
async function sendOriginBody({ body }: OriginObject, { skip, bytes, timeoutMs, sink, begin }: SendOptions): Promise<void> {
  let [toSkip, left] = [skip, bytes];
  for await (const chunk of body as AsyncIterable<Buffer>) {
    const piece = chunk.subarray(toSkip, toSkip + left);
    toSkip = Math.max(0, toSkip - chunk.length);
    if (piece.length === 0) continue;
    const isFirst = left === bytes;
    if (isFirst) begin();
    left -= piece.length;
    await writeWithin(sink.to, isFirst && sink.head !== undefined ? Buffer.concat([sink.head, piece]) : piece, timeoutMs);
    if (left === 0) return;
  }
  throw new Error(`the body ends ${left} bytes early`);
}
