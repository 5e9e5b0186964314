/** The body of every failure: `application/problem+json` (RFC 9457) with a stable `code`. */

export const problemContentType = 'application/problem+json';

export interface Problem {
  readonly status: number;
  /** Stable, for programs: lower case words joined by hyphens. */
  readonly code: string;
  /** For people: one sentence, without anything secret. */
  readonly detail: string;
}

export function problemBody({ status, code, detail }: Problem): string {
  return `${JSON.stringify({ status, code, detail })}\n`;
}
