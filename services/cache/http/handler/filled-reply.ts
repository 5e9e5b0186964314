/** The responses to a request whose object comes from a fill or from the origin. The ETag of the object is not known yet. */
import type { Result } from '../../counters.ts';
import type { FillFault } from '../../fill/fill.ts';
import { planRead, type ReadPlan } from '../conditions.ts';
import type { ObjectRequest } from '../object-request.ts';
import { type Fields, type Reply, refuse } from './reply.ts';

interface Slice {
  readonly kind: 'whole' | 'part';
  readonly start: number;
  readonly end: number;
}

/** No condition of a client matches it. So `If-Range` gets the whole object, and `If-Match` is 412. */
const unknownTag = '(unknown)';

export function planFilled(request: ObjectRequest, length: number): ReadPlan {
  return planRead({ tag: unknownTag, modifiedSeconds: Math.floor(Date.now() / 1000), length }, false, request);
}

/** Status and fields of a response with a body. */
export function bodyHead(
  { role }: { readonly role: 'fill' | 'wait' },
  { kind, start, end }: Slice,
  { length, contentType, isUnstored = false }: { readonly length: number; readonly contentType: string; readonly isUnstored?: boolean },
): [status: number, fields: Fields] {
  return [
    kind === 'part' ? 206 : 200,
    [
      ...['x-kura-cache', role],
      ...(isUnstored ? ['x-kura-stored', 'no'] : []),
      ...(kind === 'part' ? ['content-range', `bytes ${start}-${end - 1}/${length}`] : []),
      ...['accept-ranges', 'bytes'],
      ...(contentType === '' ? [] : ['content-type', contentType]),
      ...['content-length', String(end - start)],
    ],
  ];
}

/** Responds to a request whose condition or range needs no body. */
export async function replyWithout(
  { reply, role }: { readonly reply: Reply; readonly role: 'fill' | 'wait' },
  plan: Exclude<ReadPlan, { kind: 'whole' | 'part' }>,
  { length }: { readonly length: number },
): Promise<Result> {
  switch (plan.kind) {
    case 'not-modified':
      reply.send(304, ['x-kura-cache', role]);
      return 'notModified';
    case 'precondition-failed':
      return await refuse(reply, 'precondition-failed');
    case 'unsatisfiable':
      return await refuse(reply, 'range-not-satisfiable', ['content-range', `bytes */${length}`]);
    default:
      return plan satisfies never;
  }
}

export async function refuseFault(reply: Reply, fault: FillFault): Promise<Result> {
  switch (fault) {
    case 'miss':
      return await refuse(reply, 'origin-miss');
    case 'bad-path':
      await reply.refuse('bad-key', [], 'The key has an escape that no object of its origin can have.');
      return 'refused';
    case 'refused':
      return await refuse(reply, 'origin-refused');
    case 'no-length':
      return await refuse(reply, 'origin-no-length');
    case 'too-large':
      return await refuse(reply, 'origin-too-large');
    case 'busy':
      return await refuse(reply, 'fill-busy');
    case 'failed':
    case 'changed':
    case 'range':
      return await refuse(reply, 'origin-failed');
    default:
      return fault satisfies never;
  }
}
