/** Every problem that the origin service returns. `npm run generate` writes them into docs/reference.md. */
import { type Problem, problemBody, problemContentType } from '../shared/problem.ts';

export const problems = {
  'bad-path': {
    status: 400,
    detail: 'The key is not under the prefix of the origin, or it has a malformed escape, an escaped slash or NUL, or a dot segment.',
  },
  'bad-range': { status: 400, detail: 'The only supported range is bytes=FIRST- or bytes=FIRST-LAST.' },
  'bad-caller': { status: 401, detail: 'x-kura-caller and x-kura-terms are missing, have expired, or are not signed by authz.' },
  'not-your-origin': { status: 403, detail: 'The terms of the request do not name this origin.' },
  'no-such-path': { status: 404, detail: 'Objects are under /fetch/<origin>/, lists under /list/<origin>.' },
  'no-such-origin': { status: 404, detail: 'The document in force has no origin of this name.' },
  'origin-miss': { status: 404, detail: 'The origin does not have the object.' },
  'method-not-allowed': { status: 405, detail: 'The origin service supports GET and HEAD.' },
  'origin-changed': { status: 412, detail: 'The origin has another version of the object.' },
  'range-not-satisfiable': { status: 416, detail: 'The range begins after the end of the object.' },
  'no-list': { status: 501, detail: 'An origin of kind http cannot list its objects.' },
  'origin-refused': {
    status: 502,
    detail: 'The origin does not accept the credentials of kura. The log of the origin service has the reason.',
  },
  'origin-failed': { status: 502, detail: 'The origin failed. The log of the origin service has the reason.' },
  'origin-busy': { status: 503, detail: 'Too many requests are open at the origin.' },
  'origins-unavailable': { status: 503, detail: 'The origin service has not received ConfigMap kura-origins yet.' },
} as const satisfies Record<string, { status: number; detail: string }>;

export type ProblemCode = keyof typeof problems;

const retryAfterSeconds: Partial<Record<ProblemCode, number>> = { 'origin-failed': 1, 'origin-busy': 1, 'origins-unavailable': 1 };

interface ProblemResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number>>;
  readonly body: string;
}

export function problemResponse(code: ProblemCode): ProblemResponse {
  const problem: Problem = { code, ...problems[code] };
  const body = problemBody(problem);
  const retryAfter = retryAfterSeconds[code];
  return {
    status: problem.status,
    headers: {
      'content-type': problemContentType,
      'content-length': Buffer.byteLength(body),
      ...(retryAfter === undefined ? {} : { 'retry-after': retryAfter }),
    },
    body,
  };
}
