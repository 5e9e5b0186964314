/** Logs the sampled requests of traces, with the ids that Envoy gave them. It is off by default. */
import { LineLimit } from '../../shared/line-limit.ts';
import type { Logger } from '../../shared/log.ts';
import { readRequestId, readTraceparent } from '../../shared/trace-context.ts';
import type { Method, Result } from '../counters.ts';

/** A client can sample all its requests. */
const maxLinesPerSecond = 200;

interface TracedRequest {
  readonly method: Method;
  /** The received values of `x-request-id` and `traceparent`. */
  readonly requestId: unknown;
  readonly traceparent: unknown;
}

export class RequestLog {
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #lines = new LineLimit(maxLinesPerSecond);

  constructor({ log, now }: { log: Logger; now: () => number }) {
    this.#log = log;
    this.#now = now;
  }

  /** Call it at the end of each request. Never logs a key, a header of the caller, or an id of another form. */
  note({ method, requestId, traceparent }: TracedRequest, result: Result, seconds: number): void {
    const trace = readTraceparent(traceparent);
    if (!trace?.isSampled || !this.#lines.count(this.#now()).isAdmitted) return;
    const { traceId } = trace;
    this.#log.info({ request: { requestId: readRequestId(requestId), traceId, method, result, seconds } }, 'request');
  }
}
