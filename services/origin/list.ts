/** Lists an origin: a line of JSON for each object, and a last line that marks the end, because a broken list looks like a short one. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import type { FetchOptions } from './fetch.ts';
import type { OpenOrigin } from './open-origins.ts';
import type { ProblemCode } from './problems.ts';
import { OriginError } from './sources/object-source.ts';
import type { OriginPath } from './sources/origin-path.ts';

interface ListCall {
  readonly origin: OpenOrigin;
  readonly prefix: OriginPath;
  readonly after: OriginPath | undefined;
  readonly signal: AbortSignal;
}

/** Objects in a page. The last line of a full page has the key for `after` of the next request. */
const maxObjects = 10_000;

/** Returns the problem to respond with; undefined after the head was written. */
export async function listObjects(
  { origin: { origin, source, limit }, prefix, after, signal }: ListCall,
  { writeHead, response }: { writeHead: () => void; response: Writable & { readonly headersSent: boolean } },
  { metrics, faults }: FetchOptions,
): Promise<ProblemCode | undefined> {
  if (source.list === undefined) return 'no-list';
  if (!(await limit.enter(signal))) {
    metrics.count(origin.name, signal.aborted ? 'aborted' : 'busy');
    return 'origin-busy';
  }
  try {
    let count = 0;
    let next: string | undefined;
    const listed = source.list({ prefix, after, signal });
    for await (const { path, bytes, modified } of inTime(listed, origin.timeoutMs)) {
      if (count === 0) writeHead();
      const key = origin.prefix + path;
      const line = `${JSON.stringify({ key, size: bytes, modified: modified?.toISOString() })}\n`;
      if (!response.write(line)) await once(response, 'drain', { signal });
      if (++count < maxObjects) continue;
      next = key;
      break;
    }
    if (count === 0) writeHead();
    response.end(`${JSON.stringify({ end: true, next })}\n`);
    metrics.count(origin.name, 'object');
    return undefined;
  } catch (error) {
    const kind = error instanceof OriginError ? error.code : 'failed';
    metrics.count(origin.name, signal.aborted ? 'aborted' : kind);
    if (!signal.aborted) faults.report(origin.name, { kind, reason: `cannot list: ${(error as Error).message}` }, '-');
    if (!response.headersSent) return kind === 'refused' ? 'origin-refused' : 'origin-failed';
    response.destroy();
    return undefined;
  } finally {
    limit.leave();
  }
}

/** Ends the list when an object does not arrive in time, for example from a volume that hangs. */
async function* inTime<T>(items: AsyncIterable<T>, timeoutMs: number): AsyncIterable<T> {
  const iterator = items[Symbol.asyncIterator]();
  for (;;) {
    const next = iterator.next();
    const { promise: timeUp, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new OriginError('failed', `nothing arrived for ${timeoutMs} ms`)), timeoutMs);
    try {
      const { done, value } = await Promise.race([next, timeUp]);
      if (done === true) return;
      yield value;
    } catch (error) {
      next.catch(() => undefined);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}
