/** One request at an origin: its turn, its deadline, the version of the object, and its body up to the last announced byte. */
import type { ServerResponse } from 'node:http';
import type { Logger } from '../shared/log.ts';
import { formatCaller, type SignedCaller } from '../shared/signed-terms.ts';
import type { Priority } from './concurrency-limit.ts';
import type { FaultLog } from './fault-log.ts';
import type { FetchResult, Metrics } from './metrics.ts';
import type { OpenOrigin } from './open-origins.ts';
import type { ProblemCode } from './problems.ts';
import { sendBody } from './send-body.ts';
import type { Opened, OpenedObject, OpenRequest } from './sources/object-source.ts';
import type { OriginPath } from './sources/origin-path.ts';

export interface FetchOptions {
  readonly metrics: Metrics;
  readonly faults: FaultLog;
  readonly log: Logger;
}

interface FetchCall extends OpenRequest {
  readonly origin: OpenOrigin;
  readonly path: OriginPath;
  readonly caller: SignedCaller;
  /** Entity tag that the object must have; undefined accepts every version. */
  readonly version: string | undefined;
  readonly priority: Priority;
}

/** Where the object goes. `writeHead` comes once, before the body. */
interface Sink {
  readonly writeHead: (object: OpenedObject) => void;
  readonly response: ServerResponse;
}

/** Returns the problem to respond with; undefined after a head was written. Destroys the response if the body breaks. */
export async function fetchObject(call: FetchCall, sink: Sink, options: FetchOptions): Promise<ProblemCode | undefined> {
  const { limit, origin } = call.origin;
  const { metrics } = options;
  const startedAt = performance.now();
  if (!(await limit.enter(call.signal, call.priority))) {
    metrics.count(origin.name, call.signal.aborted ? 'aborted' : 'busy');
    return 'origin-busy';
  }
  try {
    const opened = await openInTime(call);
    if (call.signal.aborted) {
      drop(opened);
      metrics.count(origin.name, 'aborted');
      return 'origin-failed';
    }
    metrics.opened(origin.name, (performance.now() - startedAt) / 1000);
    if (opened.kind !== 'object') return problemOf(opened, call, options);
    if (opened.bytes !== undefined && opened.bytes > origin.maxObjectBytes) {
      drop(opened);
      reportTooLarge(call, opened.bytes, options);
      metrics.count(origin.name, 'too-large');
      return 'origin-too-large';
    }
    if (call.version !== undefined && call.version !== opened.version) {
      drop(opened);
      metrics.count(origin.name, 'changed');
      return 'origin-changed';
    }
    try {
      sink.writeHead(opened);
    } catch (error) {
      drop(opened);
      throw error;
    }
    metrics.count(origin.name, await send(opened, call, sink, options));
    return undefined;
  } finally {
    limit.leave(call.priority);
  }
}

/** Sources limit the time to connect. This timeout limits the whole time to the head, also on a mounted volume. */
async function openInTime({ origin: { origin, source }, path, method, range, signal }: FetchCall): Promise<Opened> {
  const late = new AbortController();
  const opening = source.open(path, { method, range, signal: AbortSignal.any([signal, late.signal]) });
  const { promise: timeUp, resolve } = Promise.withResolvers<Opened>();
  const timer = setTimeout(() => {
    late.abort();
    void opening.then(drop);
    resolve({ kind: 'failed', reason: `no response after ${origin.timeoutMs} ms` });
  }, origin.timeoutMs);
  try {
    return await Promise.race([opening, timeUp]);
  } finally {
    clearTimeout(timer);
  }
}

/** Closes a body that nobody reads. Its stream may report the end as an error. */
function drop(opened: Opened): void {
  if (opened.kind !== 'object') return;
  opened.body?.on('error', () => undefined);
  opened.body?.destroy();
}

function problemOf(
  opened: Exclude<Opened, OpenedObject>,
  { origin: { origin }, caller }: FetchCall,
  { metrics, faults }: FetchOptions,
): ProblemCode {
  metrics.count(origin.name, opened.kind);
  switch (opened.kind) {
    case 'miss':
      return 'origin-miss';
    case 'range-not-satisfiable':
      return 'range-not-satisfiable';
    case 'refused':
    case 'failed':
      faults.report(origin.name, opened, formatCaller(caller));
      return opened.kind === 'refused' ? 'origin-refused' : 'origin-failed';
  }
}

function reportTooLarge({ origin: { origin }, caller }: FetchCall, bytes: number, { faults }: FetchOptions): void {
  const reason = `an object has ${bytes} bytes or more; maxObjectBytes is ${origin.maxObjectBytes}`;
  faults.report(origin.name, { kind: 'too-large', reason }, formatCaller(caller));
}

async function send({ body, bodyBytes }: OpenedObject, call: FetchCall, { response }: Sink, options: FetchOptions): Promise<FetchResult> {
  const { origin } = call.origin;
  if (body === undefined) {
    response.end();
    return 'object';
  }
  const onBytes = (bytes: number) => options.metrics.countBytes(origin.name, bytes);
  const end = await sendBody(body, response, { bodyBytes, maxBytes: origin.maxObjectBytes, onBytes });
  switch (end.kind) {
    case 'whole':
      return 'object';
    case 'aborted':
      return 'aborted';
    case 'too-large':
      reportTooLarge(call, end.bytes, options);
      return 'too-large';
    case 'broken':
      // A shard that leaves ends the body too.
      if (call.signal.aborted) return 'aborted';
      options.faults.report(origin.name, { kind: 'failed', reason: `the body broke: ${end.reason}` }, formatCaller(call.caller));
      return 'short';
    default:
      return end satisfies never;
  }
}
