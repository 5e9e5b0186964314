/** Every problem that a shard returns: stable code, status and detail. `npm run generate` writes them into docs/reference.md. */
import { type Problem, problemBody, problemContentType } from '../../shared/problem.ts';

export const problems = {
  'bad-request': { status: 400, detail: 'The request is not valid HTTP/1.1.' },
  'bad-key': { status: 400, detail: 'A key is 1 to 1,024 bytes of printable ASCII without a . or .. segment.' },
  'bad-prefix': { status: 400, detail: 'A prefix is empty or ends with /, and is otherwise a key of at most 1,024 bytes.' },
  'bad-query': { status: 400, detail: 'A parameter of the query is missing, unknown, repeated or malformed.' },
  'bad-cursor': { status: 400, detail: 'The cursor is not from a list of this prefix on this shard. Start the list again.' },
  'bad-digest': { status: 400, detail: 'Content-MD5, Content-Digest or Repr-Digest is not a digest in base64.' },
  'digest-mismatch': { status: 400, detail: 'The body does not have the digest that its request announces.' },
  'partial-upload': { status: 400, detail: 'A PUT replaces the whole object; Content-Range is not supported.' },
  'bad-caller': { status: 401, detail: 'x-kura-caller and x-kura-terms are missing, have expired, or are not signed by authz.' },
  'not-manager': { status: 403, detail: 'Only the console manages data sets.' },
  'bad-ticket': { status: 403, detail: 'The ticket is invalid or has expired. Request the object through Envoy again.' },
  miss: { status: 404, detail: 'The object is not stored.' },
  'no-such-removal': { status: 404, detail: 'This shard has no removal with this id. Repeat the removal.' },
  'origin-miss': { status: 404, detail: 'Neither the cache nor the origin has the object.' },
  'no-such-path': { status: 404, detail: 'Objects are under /objects/, /direct/ and /through/.' },
  'method-not-allowed': { status: 405, detail: 'Objects support GET, HEAD, PUT and DELETE.' },
  'request-timeout': { status: 408, detail: 'The request did not arrive in time.' },
  'precondition-failed': { status: 412, detail: 'The condition of the request does not hold for the stored version.' },
  'too-large': {
    status: 413,
    detail: 'The object is larger than the policy, the share of its namespace or this shard allows. The detail names the limit.',
  },
  'unsupported-encoding': { status: 415, detail: 'The content encoding aws-chunked is not supported: send the plain body.' },
  'range-not-satisfiable': { status: 416, detail: 'The range begins after the end of the object.' },
  'expectation-failed': { status: 417, detail: 'The only supported expectation is 100-continue.' },
  'head-too-large': { status: 431, detail: 'The headers of the request are larger than 16 KiB.' },
  'unsupported-transfer-encoding': { status: 501, detail: 'The only transfer encoding that is supported is chunked.' },
  'too-many-lists': { status: 503, detail: 'The shard is listing keys for 4 other requests.' },
  'too-many-removals': { status: 503, detail: 'The shard has 64 removals that have not ended.' },
  'origin-refused': { status: 502, detail: 'The origin does not accept the credentials of kura. Ask its operator.' },
  'origin-failed': { status: 502, detail: 'The origin failed, was too slow, or changed the object while kura read it.' },
  'origin-no-length': {
    status: 502,
    detail: 'The origin does not announce the length of the object, and the shard cannot store it or it is larger than 64 MiB.',
  },
  'origin-too-large': { status: 502, detail: 'The object is larger than kura accepts from this origin.' },
  'fill-busy': { status: 503, detail: 'Too many objects are being fetched from origins.' },
  'no-room': { status: 507, detail: 'The shard could not free enough room for the object.' },
  'read-only': { status: 507, detail: 'The file system of this shard is read-only.' },
  'disk-fault': { status: 507, detail: 'The disk failed, or did not respond in time.' },
} as const satisfies Record<string, { status: number; detail: string }>;

export type ProblemCode = keyof typeof problems;

/** For temporary problems: seconds after which the client may retry. */
const retryAfterSeconds: Partial<Record<ProblemCode, number>> = {
  'too-many-lists': 1,
  'too-many-removals': 1,
  'origin-refused': 5,
  'origin-failed': 1,
  'fill-busy': 1,
  'no-room': 1,
  'read-only': 1,
  'disk-fault': 1,
};

interface ProblemResponse {
  readonly status: number;
  /** Name, value, name, value, … */
  readonly fields: readonly string[];
  readonly body: string;
}

export function problemResponse(code: ProblemCode, detail: string = problems[code].detail): ProblemResponse {
  const problem: Problem = { code, status: problems[code].status, detail };
  const body = problemBody(problem);
  const retryAfter = retryAfterSeconds[code];
  const fields = ['content-type', problemContentType, 'content-length', String(Buffer.byteLength(body))];
  return { status: problem.status, fields: retryAfter === undefined ? fields : [...fields, 'retry-after', String(retryAfter)], body };
}
