/** Every problem that a shard returns: status, stable code and a sentence (the README has the same table). */
import { type Problem, problemBody } from '../../shared/problem.ts';

export const problems = {
  'bad-request': { status: 400, detail: 'The request is not valid HTTP/1.1.' },
  'bad-key': { status: 400, detail: 'A key is 1 to 1,024 bytes of printable ASCII without a . or .. segment.' },
  'bad-header': { status: 400, detail: 'x-kura-max-object-bytes is not a whole number, or x-kura-max-share no number above 0 up to 1.' },
  'bad-credential': { status: 401, detail: 'Only Envoy may speak to a shard.' },
  'bad-ticket': { status: 403, detail: 'The ticket is not good for this, or not any more: ask Envoy again.' },
  miss: { status: 404, detail: 'There is no such object here.' },
  'no-such-path': { status: 404, detail: 'Objects are under /objects/.' },
  'method-not-allowed': { status: 405, detail: 'Objects have GET, HEAD, PUT and DELETE.' },
  'request-timeout': { status: 408, detail: 'The request did not come in time.' },
  'too-large': { status: 413, detail: 'The object is larger than the policy or this shard allows.' },
  'range-not-satisfiable': { status: 416, detail: 'The range begins past the end of the object.' },
  'expectation-failed': { status: 417, detail: 'The only expectation that is known is 100-continue.' },
  'head-too-large': { status: 431, detail: 'The head of the request is larger than 16 KiB.' },
  'no-room': { status: 507, detail: 'No room could be made for the object.' },
  'disk-fault': { status: 507, detail: 'The disk did not take the object.' },
} as const satisfies Record<string, { status: number; detail: string }>;

export type ProblemCode = keyof typeof problems;

interface ProblemResponse {
  readonly status: number;
  readonly body: string;
}

export function problemResponse(code: ProblemCode): ProblemResponse {
  const problem: Problem = { code, ...problems[code] };
  return { status: problem.status, body: problemBody(problem) };
}
