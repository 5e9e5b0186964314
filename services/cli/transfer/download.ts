/** Writes an object to a file. A transfer that breaks off leaves `FILE.part`, and the next one continues it. */
import { createWriteStream } from 'node:fs';
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { formatBytes } from '../../shared/format.ts';
import { isConnectionFault } from '../client/connection-fault.ts';
import type { ObjectClient, ObjectResponse } from '../client/object-client.ts';
import { startProgress } from '../output/progress.ts';
import type { Terminal } from '../output/terminal.ts';
import { type FileName, withSuffix } from './file-name.ts';
import { meter } from './meter.ts';

/** A transfer that breaks off is continued at most this many times in one run. */
const maxContinuations = 5;

interface Download {
  readonly client: ObjectClient;
  readonly key: string;
  /** It appears when the object is complete. */
  readonly file: FileName;
  readonly terminal: Terminal;
  readonly report: (line: string) => void;
  readonly signal: AbortSignal;
}

/** The version of the object whose first bytes a part has. */
interface PartVersion {
  readonly key: string;
  readonly etag: string;
}

type DownloadResult =
  | { readonly kind: 'complete'; readonly bytes: number; readonly continuedFrom: number; readonly response: ObjectResponse }
  | { readonly kind: 'rejected'; readonly response: ObjectResponse };

/** Rejects when the transfer breaks off too often and when `signal` aborts. Then `partOf(file)` keeps the bytes so far. */
export async function download({ client, key, file, terminal, report, signal }: Download): Promise<DownloadResult> {
  const part = partOf(file);
  for (let continuations = 0; ; continuations++) {
    const known = await readPart(part, key);
    const range = known === undefined ? {} : { range: `bytes=${known.bytes}-`, 'if-range': known.etag };
    const response = await client.request('GET', key, { headers: range, signal, report });
    if (known !== undefined && response.status === 416) {
      // The part is as long as the object or longer, so it is of no use.
      await response.body.dump();
      await removePart(part);
      continue;
    }
    if (response.status !== 200 && response.status !== 206) return { kind: 'rejected', response };
    const start = response.status === 206 ? startOf(response) : 0;
    if (start !== (response.status === 206 ? known?.bytes : 0)) throw new Error(`the server returned the bytes from ${start} on`);
    const bytes = start + Number(response.headers['content-length']);
    const { etag } = response.headers;
    if (typeof etag === 'string') await writeFile(versionOf(part), JSON.stringify({ key, etag } satisfies PartVersion));
    else await rm(versionOf(part), { force: true });
    const total = { objects: 0, bytes };
    const progress = startProgress({ label: 'get', total, done: { objects: 0, bytes: start }, waitReason: () => '', terminal });
    let done = start;
    const counted = meter(response.body, (read) => {
      done = start + read;
      progress.update({ objects: 0, bytes: done });
    });
    try {
      // This rejects if the body ends early, so that a truncated body never becomes the file.
      await pipeline(counted, createWriteStream(part, { flags: start > 0 ? 'a' : 'w' }), { signal });
      await rename(part, file);
      await removePart(part);
      return { kind: 'complete', bytes, continuedFrom: start, response };
    } catch (error) {
      if (typeof etag !== 'string') await removePart(part);
      if (signal.aborted) report(`interrupted: ${formatBytes(done)} of ${formatBytes(bytes)}`);
      if (signal.aborted || !isConnectionFault(error) || continuations >= maxContinuations) throw error;
    } finally {
      progress.stop();
    }
  }
}

function startOf({ headers }: ObjectResponse): number {
  return Number(/^bytes (\d+)-/.exec(String(headers['content-range']))?.[1]);
}

function partOf(file: FileName): FileName {
  return withSuffix(file, '.part');
}

function versionOf(part: FileName): FileName {
  return withSuffix(part, '.etag');
}

/** Undefined if there is no part, or a part of another key. */
async function readPart(part: FileName, key: string): Promise<{ bytes: number; etag: string } | undefined> {
  try {
    const [{ size: bytes }, text] = await Promise.all([stat(part), readFile(versionOf(part), 'utf8')]);
    const version = JSON.parse(text) as Partial<PartVersion>;
    return bytes > 0 && version.key === key && typeof version.etag === 'string' ? { bytes, etag: version.etag } : undefined;
  } catch {
    // There is no part, or another program wrote it. A new download replaces it.
    return undefined;
  }
}

async function removePart(part: FileName): Promise<void> {
  await rm(part, { force: true });
  await rm(versionOf(part), { force: true });
}
