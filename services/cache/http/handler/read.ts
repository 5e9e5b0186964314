/** Handles GET and HEAD. */
import type { Result } from '../../counters.ts';
import type { OpenObject } from '../../store/open-object.ts';
import { planRead } from '../conditions.ts';
import { bodyRoute, type ObjectRequest } from '../object-request.ts';
import { lastModified, objectFields } from '../response-heads.ts';
import { sendBody } from '../send-body.ts';
import { sendDirectly } from '../send-cached.ts';
import type { ObjectService } from '../service.ts';
import { type Fields, type Reply, redirect, refuse } from './reply.ts';
import { handleThrough } from './through.ts';

/** Looks at the stored object again after a fill that this request could not follow, for example because another request replaced it. */
const maxRounds = 3;

export async function handleRead(service: ObjectService, request: ObjectRequest, reply: Reply): Promise<Result> {
  const { store, fills } = service;
  const { firstByteMs } = service.budget;
  for (let round = 1; ; round += 1) {
    const deadlineMs = performance.now() + firstByteMs;
    const isCounted = request.method === 'GET' && round === 1;
    const object = await store.open(request.key, { version: request.version, limitMs: firstByteMs, isCounted });
    if (fills === undefined || request.fill === undefined) {
      return object === undefined ? await refuse(reply, 'miss') : await sendHit(service, request, { object, deadlineMs }, reply);
    }
    // The object of a client may be newer than that of the origin, or may be only here.
    const isForced = isUnwanted(request) && (object === undefined || object.origin === request.fill.origin);
    const isFresh = object !== undefined && !isForced && (await fills.isFresh(object, request.namespace ?? '', request.fill));
    if (isFresh) return await sendHit(service, request, { object, deadlineMs: performance.now() + firstByteMs }, reply);
    const replaces = object?.tag;
    object?.release();
    const result = await handleThrough({ service, fills, request, reply, replaces, isForced });
    if (result !== 'again') return result;
    if (round === maxRounds) return await refuse(reply, 'fill-busy');
  }
}

/** Whether the client wants the object from the origin (RFC 9111, 5.2.1.4). */
function isUnwanted({ cacheControl }: ObjectRequest): boolean {
  return cacheControl !== undefined && /(?:^|,)\s*no-cache\s*(?:,|$)/i.test(cacheControl);
}

/** Releases the object. */
async function sendHit(
  service: ObjectService,
  request: ObjectRequest,
  { object, deadlineMs }: Pick<ObjectSlice, 'object' | 'deadlineMs'>,
  reply: Reply,
): Promise<Result> {
  try {
    return await handleHit(service, request, { object, deadlineMs }, reply);
  } finally {
    object.release();
  }
}

async function handleHit(
  service: ObjectService,
  request: ObjectRequest,
  { object, deadlineMs }: Pick<ObjectSlice, 'object' | 'deadlineMs'>,
  reply: Reply,
): Promise<Result> {
  const { store, direct } = service;
  const plan = planRead(object, request.method === 'HEAD', request);
  const location = direct?.locateRead(request, object, plan);
  if (location !== undefined) return redirect(reply, location);
  store.use(object, request.method === 'GET');
  switch (plan.kind) {
    case 'not-modified':
      reply.send(304, [...hitFields(request), 'etag', object.tag, 'last-modified', lastModified(object)]);
      return 'notModified';
    case 'precondition-failed':
      return await refuse(reply, 'precondition-failed');
    case 'unsatisfiable':
      return await refuse(reply, 'range-not-satisfiable', ['content-range', `bytes */${object.length}`]);
    case 'whole':
    case 'part':
      return await sendObject(service, request, { object, deadlineMs, ...plan }, reply);
    default:
      return plan satisfies never;
  }
}

function hitFields({ route }: ObjectRequest): Fields {
  return route === 'through' ? ['x-kura-cache', 'hit'] : [];
}

interface ObjectSlice {
  readonly kind: 'whole' | 'part';
  readonly object: OpenObject;
  /** Deadline for the read of the first byte. */
  readonly deadlineMs: number;
  readonly start: number;
  readonly end: number;
}

async function sendObject(service: ObjectService, request: ObjectRequest, slice: ObjectSlice, reply: Reply): Promise<Result> {
  const { reader, buffers, readerTimeoutMs: timeoutMs, budget, counters, sendfile } = service;
  const { object, start, end } = slice;
  const isPart = slice.kind === 'part';
  const range = isPart ? ['content-range', `bytes ${start}-${end - 1}/${object.length}`] : [];
  const fields = [...hitFields(request), ...range, ...objectFields(object, end - start)];
  const status = isPart ? 206 : 200;
  const result = isPart ? 'partial' : 'hit';
  if (request.method === 'HEAD' || start === end) {
    reply.send(status, fields);
    return result;
  }
  const sink = reply.stream(status, fields);
  let isBegun = false;
  const begin = () => {
    isBegun = true;
    sink.begin();
  };
  try {
    const body = { ...slice, to: sink.to, head: sink.head, reader, buffers, timeoutMs, readMs: budget.readMs };
    if (sendfile !== undefined && request.route === 'ticket') await sendDirectly(sendfile, body, begin);
    else await sendBody(body, begin);
  } catch (error) {
    // In the middle of a body, only a broken connection shows the client that the body is incomplete.
    if (isBegun) throw error;
    return await refuse(reply, 'miss');
  }
  counters.sent[bodyRoute(request)] += end - start;
  sink.end();
  return result;
}
