/** The keys in the body of a POST, one on each line. */
import { canonicalKey, isKey, maxKeyBytes } from '../../shared/key.ts';
import { ownCopy } from '../../shared/own-copy.ts';
import type { KeyQueue } from './key-queue.ts';

export interface KeyCounts {
  accepted: number;
  /** Lines that are no key, or a key outside the prefix. */
  rejected: number;
  /** Keys for which the job has no room. */
  dropped: number;
  /** The first lines that were rejected. */
  readonly rejectedKeys: string[];
}

interface ReadOptions {
  readonly prefix: string;
  readonly queue: KeyQueue;
  readonly maxBodyBytes: number;
}

export const maxShownKeys = 10;

/** Fills the queue. Returns undefined for a body that is too long. Rejects when the body breaks. */
export async function readKeys(body: AsyncIterable<Buffer>, { prefix, queue, maxBodyBytes }: ReadOptions): Promise<KeyCounts | undefined> {
  const counts: KeyCounts = { accepted: 0, rejected: 0, dropped: 0, rejectedKeys: [] };
  let [bytes, rest] = [0, ''];
  const add = (line: string): void => addLine(line.replace(/\r$/, ''), { prefix, queue, counts });
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) return undefined;
    const lines = (rest + chunk.toString('latin1')).split('\n');
    // Longer text can never become a key, so its beginning is enough.
    rest = (lines.pop() as string).slice(0, maxLineBytes);
    lines.forEach(add);
  }
  add(rest);
  return counts;
}

/** A key in another spelling is up to three times as long. The next character makes it too long. */
const maxLineBytes = 3 * maxKeyBytes + 1;

function addLine(line: string, { prefix, queue, counts }: { prefix: string; queue: KeyQueue; counts: KeyCounts }): void {
  if (line === '') return;
  const key = line.length < maxLineBytes ? canonicalKey(line) : undefined;
  if (key === undefined || !isKey(key) || !key.startsWith(prefix)) {
    counts.rejected++;
    if (counts.rejectedKeys.length < maxShownKeys) counts.rejectedKeys.push(ownCopy(line.slice(0, maxKeyBytes)));
  } else if (queue.hasRoom) {
    counts.accepted++;
    queue.push(ownCopy(key));
  } else counts.dropped++;
}
