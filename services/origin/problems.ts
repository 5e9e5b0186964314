/** Every problem that the origin service returns. `npm run generate` writes them into docs/reference.md. */
import type { ServerResponse } from 'node:http';
import { problemResponse } from '../shared/problem.ts';

export const problems = {
  'bad-path': {
    status: 400,
    detail: 'The key is not under the prefix of the origin, or it has a malformed escape, an escaped slash or NUL, or a dot segment.',
  },
  'bad-prefix': { status: 400, detail: 'A prefix ends with /, is in the canonical spelling of keys, and has no . or .. segment.' },
  'bad-range': { status: 400, detail: 'The only supported range is bytes=FIRST- or bytes=FIRST-LAST.' },
  'bad-caller': { status: 401, detail: 'x-kura-caller and x-kura-terms are missing, have expired, or are not signed by authz.' },
  'not-your-origin': { status: 403, detail: 'The terms of the request do not name this origin.' },
  'no-such-path': { status: 404, detail: 'Objects are under /fetch/<origin>/, lists under /list/<origin>, jobs under /prefetch/<prefix>.' },
  'no-such-origin': { status: 404, detail: 'The document in force has no origin of this name.' },
  'no-origin': { status: 404, detail: 'No origin has this prefix.' },
  'no-such-job': {
    status: 404,
    detail: 'This prefix has no job of this id: it ended long ago, or its replica restarted. Post again; objects in the cache are skipped.',
  },
  'origin-miss': { status: 404, detail: 'The origin does not have the object.' },
  'method-not-allowed': { status: 405, detail: 'This path does not support the method. The header Allow lists the methods.' },
  'origin-changed': { status: 412, detail: 'The origin has another version of the object.' },
  'body-too-large': { status: 413, detail: 'The list of keys is longer than 64 MiB.' },
  'range-not-satisfiable': { status: 416, detail: 'The range begins after the end of the object.' },
  'too-many-jobs': { status: 429, detail: 'The namespace runs as many prefetch jobs as it may. Wait for one to end, or stop one.' },
  'no-list': { status: 501, detail: 'An origin of kind http cannot list its objects. A prefetch job needs a list of keys.' },
  'origin-refused': {
    status: 502,
    detail: 'The origin does not accept the credentials of kura. The log of the origin service has the reason.',
  },
  'origin-too-large': { status: 502, detail: 'The object is larger than maxObjectBytes of its origin.' },
  'origin-failed': { status: 502, detail: 'The origin failed. The log of the origin service has the reason.' },
  'origin-busy': { status: 503, detail: 'Too many requests are open at the origin.' },
  'no-place-for-job': { status: 503, detail: 'This replica of the origin service runs as many prefetch jobs as it may.' },
  'origins-unavailable': { status: 503, detail: 'The origin service has not received ConfigMap kura-origins yet.' },
} as const satisfies Record<string, { status: number; detail: string }>;

export type ProblemCode = keyof typeof problems;

const retryAfterSeconds: Partial<Record<ProblemCode, number>> = {
  'origin-failed': 1,
  'origin-busy': 1,
  'origins-unavailable': 1,
  // Jobs take minutes.
  'too-many-jobs': 30,
  'no-place-for-job': 30,
};

export function sendProblem(response: ServerResponse, code: ProblemCode, further: Readonly<Record<string, string>> = {}): void {
  const { status, headers, body } = problemResponse({ code, ...problems[code] }, retryAfterSeconds[code]);
  // A response to HEAD has no body, so a header has the code too.
  const own = { 'content-length': Buffer.byteLength(body), 'x-kura-problem': code };
  response.writeHead(status, { ...headers, ...own, ...further }).end(body);
}
