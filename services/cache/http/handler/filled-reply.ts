/** The responses to a request whose object comes from a fill or from the origin. The ETag of the object is not known yet. */
import type { Result } from '../../counters.ts';
import type { FillFault } from '../../fill/fill.ts';
import { planRead, type ReadPlan } from '../conditions.ts';
import type { ObjectRequest } from '../object-request.ts';
import type { ProblemCode } from '../problems.ts';
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
  if (fault === 'bad-path') {
    await reply.refuse('bad-key', [], 'The key has an escape that no object of its origin can have.');
    return 'refused';
  }
  const code = problemOf[fault];
  // A response to HEAD has no body, so a header has the code too.
  return await refuse(reply, code, ['x-kura-problem', code]);
}

const problemOf: Readonly<Record<Exclude<FillFault, 'bad-path'>, ProblemCode>> = {
  miss: 'origin-miss',
  refused: 'origin-refused',
  'no-length': 'origin-no-length',
  'too-large': 'origin-too-large',
  busy: 'fill-busy',
  failed: 'origin-failed',
  changed: 'origin-failed',
  range: 'origin-failed',
};
