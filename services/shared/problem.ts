/** The body of every failure: `application/problem+json` (https://www.rfc-editor.org/rfc/rfc9457) with a stable `code`. */

export const problemContentType = 'application/problem+json';

export interface Problem {
  readonly status: number;
  /** Stable and for programs: lower-case words joined by hyphens. */
  readonly code: string;
  /** One sentence for people. It must not contain a secret. */
  readonly detail: string;
}

export function problemBody({ status, code, detail }: Problem): string {
  return `${JSON.stringify({ status, code, detail })}\n`;
}

interface ProblemResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** `retryAfterSeconds`: for a temporary problem. */
export function problemResponse(problem: Problem, retryAfterSeconds: number | undefined): ProblemResponse {
  const retryAfter = retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) };
  return { status: problem.status, headers: { 'content-type': problemContentType, ...retryAfter }, body: problemBody(problem) };
}
