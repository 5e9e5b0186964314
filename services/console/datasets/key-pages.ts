/** Pages through the keys under a prefix: shard by shard, in the order of the shards' names. */
import { compareText } from '../../shared/unique-shards.ts';
import { type ShardClient, type ShardPlace, ShardProblem } from './shard-client.ts';

interface Position {
  readonly shard: string;
  /** The cursor of the shard; undefined at its beginning. */
  readonly after: string | undefined;
}

export interface PageRequest {
  readonly prefix: string;
  /** A cursor of this file. */
  readonly after: string | undefined;
  readonly limit: number;
  readonly signal: AbortSignal;
}

interface PageEnd {
  /** Undefined on the last page. */
  readonly next: string | undefined;
  /** False if a shard was away or does not know all of its keys. */
  readonly complete: boolean;
}

/** A page ends after this time, within the timeout of Envoy. */
const maxPageMs = 15_000;
const maxNameLength = 512;
const maxCursorLength = 4_096;

export class BadCursorError extends Error {
  readonly code = 'bad-cursor';
}

/**
 * Yields text with one line for each key, shard by shard, and returns the end of the page. Throws BadCursorError before the first text if
 * the cursor is not one of this prefix.
 */
export async function* keyPage(
  client: Pick<ShardClient, 'keys'>,
  shards: readonly ShardPlace[],
  { prefix, after, limit, signal }: PageRequest,
): AsyncGenerator<string, PageEnd> {
  const untilMs = performance.now() + maxPageMs;
  const begin = after === undefined ? undefined : readCursor(after);
  if (after !== undefined && begin === undefined) throw new BadCursorError('the cursor has another form');
  const sorted = [...shards].sort((one, other) => compareText(one.hashKey, other.hashKey));
  const left = sorted.filter(({ hashKey }) => begin === undefined || hashKey >= begin.shard);
  // A shard that is no longer listed keeps its keys to itself.
  let complete = shards.length > 0 && (begin === undefined || left[0]?.hashKey === begin.shard);
  let listed = 0;
  for (const shard of left) {
    let position = shard.hashKey === begin?.shard ? begin.after : undefined;
    for (;;) {
      if (listed >= limit || performance.now() > untilMs || signal.aborted)
        return { next: writeCursor({ shard: shard.hashKey, after: position }), complete };
      const page = await client.keys(shard, { prefix, after: position, limit: limit - listed }).catch((error: unknown) => {
        // The cursor of another prefix, or of a shard with a new directory.
        if (error instanceof ShardProblem && error.code === 'bad-cursor')
          throw new BadCursorError('the shard rejects it', { cause: error });
        return undefined;
      });
      complete &&= page?.complete === true;
      if (page === undefined) break;
      listed += page.keys;
      if (page.text !== '') yield page.text;
      if (page.next === undefined) break;
      position = page.next;
    }
  }
  return { next: undefined, complete };
}

function writeCursor({ shard, after }: Position): string {
  return Buffer.from(JSON.stringify([shard, ...(after === undefined ? [] : [after])])).toString('base64url');
}

function readCursor(text: string): Position | undefined {
  if (text.length > maxCursorLength) return undefined;
  try {
    const parsed: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    if (!Array.isArray(parsed) || parsed.length < 1 || parsed.length > 2) return undefined;
    const [shard, after] = parsed as unknown[];
    if (typeof shard !== 'string' || shard.length > maxNameLength || (after !== undefined && typeof after !== 'string')) return undefined;
    return { shard, after };
  } catch {
    return undefined;
  }
}
