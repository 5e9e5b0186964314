/** Lists a page of an origin. */
import type { Priority } from './concurrency-limit.ts';
import type { FetchOptions } from './fetch.ts';
import type { OpenOrigin } from './open-origins.ts';
import type { ProblemCode } from './problems.ts';
import { OriginError } from './sources/object-source.ts';
import type { OriginPath } from './sources/origin-path.ts';

interface ListCall {
  readonly origin: OpenOrigin;
  readonly prefix: OriginPath;
  readonly after: OriginPath | undefined;
  readonly priority: Priority;
  readonly signal: AbortSignal;
}

export interface ListedKey {
  readonly key: string;
  readonly bytes: number;
  readonly modified: Date | undefined;
}

/** With `next`, another page follows: it is `after` of the next call. A problem can come after some objects. */
type Listed = { readonly kind: 'page'; readonly next: string | undefined } | { readonly kind: 'problem'; readonly code: ProblemCode };

/** Objects in a page. */
const maxObjects = 10_000;

/** Calls `onObject` for each object of a page, in the order of names. */
export async function listObjects(
  { origin: { origin, source, limit }, prefix, after, priority, signal }: ListCall,
  onObject: (object: ListedKey) => Promise<void> | void,
  { metrics, faults }: Pick<FetchOptions, 'metrics' | 'faults'>,
): Promise<Listed> {
  if (source.list === undefined) return { kind: 'problem', code: 'no-list' };
  if (!(await limit.enter(signal, priority))) {
    metrics.count(origin.name, signal.aborted ? 'aborted' : 'busy');
    return { kind: 'problem', code: 'origin-busy' };
  }
  try {
    let count = 0;
    let next: string | undefined;
    for await (const { path, bytes, modified } of inTime(source.list({ prefix, after, signal }), origin.timeoutMs)) {
      const key = origin.prefix + path;
      await onObject({ key, bytes, modified });
      if (++count < maxObjects) continue;
      next = key;
      break;
    }
    metrics.count(origin.name, 'object');
    return { kind: 'page', next };
  } catch (error) {
    const kind = error instanceof OriginError ? error.code : 'failed';
    metrics.count(origin.name, signal.aborted ? 'aborted' : kind);
    if (!signal.aborted) faults.report(origin.name, { kind, reason: `cannot list: ${(error as Error).message}` }, '-');
    return { kind: 'problem', code: kind === 'refused' ? 'origin-refused' : 'origin-failed' };
  } finally {
    limit.leave(priority);
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
