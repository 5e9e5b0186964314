/**
 * Pure: the ids that connect the log lines and the spans of one request. Envoy makes them only with its tracing fragment. The forms are
 * strict, because a client can send anything in these headers, also a token.
 */

/** https://www.w3.org/TR/trace-context/#traceparent-header */
export interface TraceContext {
  readonly traceId: string;
  /** The span of the sender. */
  readonly spanId: string;
  /** Whether the spans of this trace are kept. */
  readonly isSampled: boolean;
}

const requestIdForm = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const traceparentForm = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
/** The last bit of the flags. */
const sampledFlag = 1;

/** Undefined for everything but an id of Envoy. */
export function readRequestId(value: unknown): string | undefined {
  return typeof value === 'string' && requestIdForm.test(value) ? value : undefined;
}

export function readTraceparent(value: unknown): TraceContext | undefined {
  const match = typeof value === 'string' ? traceparentForm.exec(value) : null;
  if (match === null) return undefined;
  const [, traceId = '', spanId = '', flags = ''] = match;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & sampledFlag) !== 0 };
}
