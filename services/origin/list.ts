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

/** A page. Its last line then has the name after which the next page begins. */
const maxObjects = 10_000;

/** Returns the problem to respond with; undefined after the head was written. */
export async function listObjects(
  { origin: { origin, source, limit }, prefix, after, signal }: ListCall,
  { writeHead, response }: { writeHead: () => void; response: Writable & { readonly headersSent: boolean } },
  { metrics, faults }: FetchOptions,
): Promise<ProblemCode | undefined> {
  if (source.list === undefined) return 'no-list';
  if (!(await limit.enter(signal))) return 'origin-busy';
  try {
    let count = 0;
    let next: string | undefined;
    for await (const { path, bytes, modified } of source.list({ prefix, after, signal })) {
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
