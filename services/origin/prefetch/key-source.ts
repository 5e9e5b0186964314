/** Lists the objects of an origin for a job, page by page, no faster than the job fetches them. */
import { setTimeout as delay } from 'node:timers/promises';
import type { FetchOptions } from '../fetch.ts';
import { type ListedKey, listObjects } from '../list.ts';
import { type OpenOrigins, pathAt } from '../open-origins.ts';
import type { KeyQueue } from './key-queue.ts';

interface ListJob {
  readonly origin: string;
  readonly prefix: string;
  readonly queue: KeyQueue;
  /** Called for each object. Whether the job fetches it. */
  readonly accept: (object: ListedKey) => boolean;
  readonly signal: AbortSignal;
}

export interface ListOptions extends Pick<FetchOptions, 'metrics' | 'faults'> {
  readonly origins: OpenOrigins;
}

/** Tries without a further object between them. */
const maxTries = 5;
const firstBackoffMs = 1_000;

/** Returns the reason, for the caller of the job, why the list could not be completed. Rejects when the signal aborts. */
export async function listKeys(job: ListJob, { origins, ...options }: ListOptions): Promise<string | undefined> {
  const { queue, signal } = job;
  let last: string | undefined;
  let tries = 0;
  for (;;) {
    await queue.room(signal);
    const origin = origins.get(job.origin);
    const prefix = origin === undefined ? undefined : pathAt(origin, job.prefix);
    if (origin === undefined || prefix === undefined) return `origin ${job.origin} does not have this prefix any more`;
    const after = last === undefined ? undefined : pathAt(origin, last);
    const before = last;
    const listed = await listObjects(
      { origin, prefix, after, priority: 'prefetch', signal },
      (object) => {
        signal.throwIfAborted();
        last = object.key;
        if (job.accept(object)) queue.push(object.key);
      },
      options,
    );
    signal.throwIfAborted();
    if (listed.kind === 'page') {
      if (listed.next === undefined) return undefined;
      tries = 0;
      continue;
    }
    tries = last === before ? tries + 1 : 1;
    if (tries >= maxTries || (listed.code !== 'origin-failed' && listed.code !== 'origin-busy'))
      return `the origin could not list its objects: ${listed.code}`;
    await delay(firstBackoffMs * 2 ** (tries - 1), undefined, { signal });
  }
}
