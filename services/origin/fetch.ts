/** One request at an origin: its turn, its deadline, the version of the object, and its body up to the last announced byte. */
import { Transform, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Logger } from '../shared/log.ts';
import { formatCaller, type SignedCaller } from '../shared/signed-terms.ts';
import type { Priority } from './concurrency-limit.ts';
import type { FaultLog } from './fault-log.ts';
import type { FetchResult, Metrics } from './metrics.ts';
import type { OpenOrigin } from './open-origins.ts';
import type { ProblemCode } from './problems.ts';
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
  readonly response: Writable;
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
    metrics.count(origin.name, await sendBody(opened, call, sink, options));
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

async function sendBody(
  { body, bodyBytes }: OpenedObject,
  { origin: { origin }, caller, signal }: FetchCall,
  { response }: Sink,
  { metrics, faults }: FetchOptions,
): Promise<FetchResult> {
  if (body === undefined) {
    response.end();
    return 'object';
  }
  let sent = 0;
  let fault: Error | undefined;
  // When the shard leaves, the signal is aborted before the body ends.
  body.on('error', (error) => {
    if (!signal.aborted) fault ??= error;
  });
  const counted = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      sent += chunk.length;
      metrics.countBytes(origin.name, chunk.length);
      done(null, chunk);
    },
    // A body that is too short must break the connection.
    flush: (done) => {
      if (bodyBytes !== undefined && sent !== bodyBytes) fault = new Error(`it has ${sent} of ${bodyBytes} bytes`);
      done(fault ?? null);
    },
  });
  try {
    await pipeline(body, counted, response);
    return 'object';
  } catch {
    if (fault === undefined) return 'aborted';
    faults.report(origin.name, { kind: 'failed', reason: `the body broke: ${fault.message}` }, formatCaller(caller));
    return 'short';
  }
}
