/** One object as a training job reads it: from the cache, or from its file and then into the cache. Every byte is compared with the file. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { SourceFile } from './files.ts';
import type { ObjectClient } from './object-client.ts';

/** Of an answer that refuses. */
const shownCharacters = 200;

export type ReadOutcome =
  | { readonly kind: 'hit' }
  | { readonly kind: 'miss' }
  /** The cache gave other bytes than the file has: the worst that can happen. */
  | { readonly kind: 'difference'; readonly detail: string }
  /** `cause` groups failures of one kind, such as `GET 503`; `detail` is about this one. */
  | { readonly kind: 'failure'; readonly cause: string; readonly detail: string };

/** An outcome, and how many answers of 503 came before it. */
export type Read = ReadOutcome & { readonly retries: number };

/** Never rejects but for an aborted `signal`: whatever goes wrong is an outcome. */
export async function readThrough(
  client: ObjectClient,
  { key, file, signal }: { key: string; file: SourceFile; signal: AbortSignal },
): Promise<Read> {
  let retries = 0;
  try {
    const get = await client.request('GET', key, { signal });
    retries += get.retries;
    if (get.status === 200) {
      // A body that is not read to its end would keep its connection, and the pool has one a worker.
      const outcome = await compare(get.body, { file, announced: Number(get.headers['content-length']) }).finally(() => get.body.destroy());
      return { ...outcome, retries };
    }
    const text = await get.body.text();
    if (get.status !== 404) return { ...refused('GET', get.status, text), retries };
    const put = await client.request('PUT', key, { body: () => createReadStream(file.path), length: file.size, signal });
    retries += put.retries;
    const answer = await put.body.text();
    return put.status === 201 ? { kind: 'miss', retries } : { ...refused('PUT', put.status, answer), retries };
  } catch (error) {
    signal.throwIfAborted();
    const { code, message } = error as NodeJS.ErrnoException;
    return {
      kind: 'failure',
      cause: code === undefined || code.startsWith('UND_ERR') ? 'broken connection' : code,
      detail: message,
      retries,
    };
  }
}

function refused(method: string, status: number, text: string): ReadOutcome {
  return { kind: 'failure', cause: `${method} ${status}`, detail: `${method} answered ${status} ${text.trim().slice(0, shownCharacters)}` };
}

/** Reads as much of the file as has come, piece by piece: memory stays constant whatever the size. */
async function compare(body: Readable, { file, announced }: { file: SourceFile; announced: number }): Promise<ReadOutcome> {
  const handle = await open(file.path);
  let buffer = Buffer.alloc(64 * 1024);
  let position = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (buffer.length < chunk.length) buffer = Buffer.alloc(chunk.length);
      const { bytesRead } = await handle.read(buffer, 0, chunk.length, position);
      if (!chunk.equals(buffer.subarray(0, bytesRead))) {
        return { kind: 'difference', detail: `other bytes than the file between ${position} and ${position + chunk.length}` };
      }
      position += chunk.length;
    }
  } finally {
    await handle.close();
  }
  if (position !== announced)
    return { kind: 'failure', cause: 'broken transfer', detail: `the transfer ended after ${position} of ${announced} bytes` };
  if (position !== file.size) return { kind: 'difference', detail: `${position} bytes where the file has ${file.size}` };
  return { kind: 'hit' };
}
