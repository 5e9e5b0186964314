/** Handles GET and HEAD under `/through/` of an object that has to be fetched from its origin. */
import type { Result } from '../../counters.ts';
import { within } from '../../disk/deadline.ts';
import type { Fill, FillRequest, FillState } from '../../fill/fill.ts';
import type { Fills } from '../../fill/fills.ts';
import { GoneError } from '../../fill/growth.ts';
import { bodyRoute, type ObjectRequest } from '../object-request.ts';
import { sendBody } from '../send-body.ts';
import type { ObjectService } from '../service.ts';
import { fetchPart, type PartCall, sendAlone } from './alone.ts';
import { bodyHead, planFilled, refuseFault, replyWithout } from './filled-reply.ts';
import { type Reply, refuse } from './reply.ts';

interface ThroughRequest {
  readonly service: ObjectService;
  readonly fills: Fills;
  readonly request: ObjectRequest;
  readonly reply: Reply;
  /** The ETag of the stored object, which the client does not want; undefined for a miss. */
  readonly replaces: string | undefined;
  /** Ask the origin even if it did not have the object some seconds ago. */
  readonly isForced: boolean;
}

/** A ranged read that begins further ahead of the fill is fetched from the origin alone. */
const maxAheadBytes = 16 * 1024 * 1024;

/** Resolves with `again` if the stored object may serve the request now. */
export async function handleThrough(through: ThroughRequest): Promise<Result | 'again'> {
  const { service, fills, request, reply } = through;
  const wanted = fillRequestOf(through);
  const untilMs = performance.now() + service.budget.fillMs;
  if (request.method === 'HEAD' && !wanted.fill.isPrefetch) return await handleHead(through, wanted, untilMs);
  const joined = fills.join(wanted, through.isForced);
  if (joined.kind === 'miss') return await refuse(reply, 'origin-miss');
  if (joined.kind === 'busy') return await refuse(reply, 'fill-busy');
  const { fill, isOwn } = joined;
  const call: PartCall = { service, fills, request, reply, wanted, untilMs, role: isOwn ? 'fill' : 'wait' };
  fills.waiters += 1;
  try {
    return request.method === 'HEAD' ? await reportEnd(call, fill) : await followFill(call, fill);
  } finally {
    fills.waiters -= 1;
  }
}

function fillRequestOf({ request, replaces }: ThroughRequest): FillRequest {
  const { key, namespace = '', serviceAccount = '', pod = '', maxObjectBytes = Number.POSITIVE_INFINITY, fill } = request;
  if (fill === undefined) throw new Error('the request has no terms for a fill');
  return { key, namespace, serviceAccount, pod, maxObjectBytes, fill, replaces };
}

async function followFill(call: PartCall, fill: Fill): Promise<Result | 'again'> {
  for (;;) {
    const state = await fill.settled(call.untilMs - performance.now());
    switch (state.kind) {
      case 'opening':
        return await refuseFault(call.reply, 'failed');
      case 'fault':
        return await refuseFault(call.reply, state.fault);
      case 'alone':
        return await sendAlone(call, state, fill.take());
      case 'growing': {
        const result = await sendGrowing(call, state);
        // The object gets its name in this moment, or its disk has failed. When the fill has ended, it is stored, or the key has no fill.
        if (result === 'again') await within(call.untilMs - performance.now(), fill.ended).catch(() => {});
        // The fill has started over, or the shard does not store the object after all.
        if (result !== 'ended') return result;
        break;
      }
      default:
        return state satisfies never;
    }
  }
}

type Growing = Extract<FillState, { kind: 'growing' }>;

async function sendGrowing(call: PartCall, state: Growing): Promise<Result | 'again' | 'ended'> {
  const { growth } = state;
  if (!growth.enter()) return 'again';
  try {
    const plan = planFilled(call.request, state.length);
    if (plan.kind !== 'whole' && plan.kind !== 'part') return await replyWithout(call, plan, state);
    const { start, end } = plan;
    if (start === end) {
      call.reply.send(...bodyHead(call, plan, state));
      return resultOf(call);
    }
    if (start > growth.availableBytes + maxAheadBytes) {
      const result = await fetchPart(call, plan, state);
      if (result !== undefined) return result;
    }
    const reached = await growth.reach(start + 1, call.untilMs - performance.now());
    if (reached === 'late') return await refuseFault(call.reply, 'failed');
    return reached === 'ended' ? 'ended' : await sendSlice(call, { ...state, ...plan });
  } finally {
    growth.leave();
  }
}

type Slice = Pick<Growing, 'growth' | 'length' | 'contentType'> & {
  readonly kind: 'whole' | 'part';
  readonly start: number;
  readonly end: number;
};

async function sendSlice(call: PartCall, slice: Slice): Promise<Result | 'again'> {
  const { service, request, reply } = call;
  const { reader, buffers, readerTimeoutMs: timeoutMs, budget, counters } = service;
  const { growth, start, end } = slice;
  const sink = reply.stream(...bodyHead(call, slice, slice));
  let isBegun = false;
  const begin = () => {
    isBegun = true;
    growth.isSent = true;
    sink.begin();
  };
  try {
    const times = { deadlineMs: performance.now() + budget.firstByteMs, timeoutMs, readMs: budget.readMs };
    const from = { object: growth.file, start, end, reader, buffers, growth };
    await sendBody({ ...from, ...times, to: sink.to, head: sink.head }, begin);
  } catch (error) {
    if (isBegun) throw error;
    // The object is stored meanwhile, or the fill has failed.
    return error instanceof GoneError ? 'again' : await refuse(reply, 'fill-busy');
  }
  counters.sent[bodyRoute(request)] += end - start;
  sink.end();
  return resultOf(call);
}

/** Responds to a prefetch job when the fill has ended. */
async function reportEnd(call: PartCall, fill: Fill): Promise<Result> {
  const result = await fill.ended;
  const { state } = fill;
  if (state.kind !== 'growing' && state.kind !== 'alone') {
    return await refuseFault(call.reply, state.kind === 'fault' ? state.fault : 'failed');
  }
  const whole = { kind: 'whole', start: 0, end: state.length } as const;
  call.reply.send(...bodyHead(call, whole, { ...state, isUnstored: result !== 'stored' }));
  return resultOf(call);
}

/** Asks the running fill, or else the origin. Starts no fill. */
async function handleHead(through: ThroughRequest, wanted: FillRequest, untilMs: number): Promise<Result> {
  const { fills, reply, isForced } = through;
  const running = await fills.find(wanted)?.settled(untilMs - performance.now());
  if (running?.kind === 'growing' || running?.kind === 'alone') {
    const head = { role: 'wait' } as const;
    reply.send(...bodyHead(head, { kind: 'whole', start: 0, end: running.length }, running));
    return 'waited';
  }
  if (running !== undefined) return await refuseFault(reply, running.kind === 'fault' ? running.fault : 'failed');
  if (!isForced && fills.isKnownMiss(wanted.fill.origin, wanted.key)) return await refuse(reply, 'origin-miss');
  const slot = fills.enter(wanted);
  if (slot === undefined) return await refuse(reply, 'fill-busy');
  try {
    const object = await fills.origin.open({ method: 'HEAD', key: wanted.key, fill: wanted.fill, limitMs: untilMs - performance.now() });
    if (object.kind !== 'object') {
      if (object.kind === 'miss') fills.noteMiss(wanted.fill.origin, wanted.key);
      return await refuseFault(reply, object.kind);
    }
    object.body.resume();
    const length = object.length === undefined ? [] : ['content-length', String(object.length)];
    reply.send(200, ['accept-ranges', 'bytes', 'content-type', object.contentType, ...length]);
    return 'filled';
  } finally {
    slot.leave();
  }
}

function resultOf({ role }: PartCall): Result {
  return role === 'fill' ? 'filled' : 'waited';
}
