/** One object as a training job reads it: from the cache, or from its file and then into the cache. Every byte is compared with the file. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { SourceFile } from './files.ts';
import type { ObjectClient } from './object-client.ts';

export type ReadOutcome =
  | { readonly kind: 'hit' }
  | { readonly kind: 'miss' }
  /** The cache gave other bytes than the file has: the worst that can happen. */
  | { readonly kind: 'difference'; readonly detail: string }
  | { readonly kind: 'failure'; readonly detail: string };

/** Never rejects but for an aborted `signal`: whatever goes wrong is an outcome. */
export async function readThrough(
  client: ObjectClient,
  { key, file, signal }: { key: string; file: SourceFile; signal: AbortSignal },
): Promise<ReadOutcome> {
  try {
    const { status, headers, body } = await client.request('GET', key, { signal });
    if (status === 200) {
      // A body that is not read to its end would keep its connection, and the pool has one a worker.
      return await compare(body, { file, announced: Number(headers['content-length']) }).finally(() => body.destroy());
    }
    const text = await body.text();
    if (status !== 404) return { kind: 'failure', detail: `GET answered ${status} ${shorten(text)}` };
    const put = await client.request('PUT', key, { body: () => createReadStream(file.path), length: file.size, signal });
    const answer = await put.body.text();
    return put.status === 201 ? { kind: 'miss' } : { kind: 'failure', detail: `PUT answered ${put.status} ${shorten(answer)}` };
  } catch (error) {
    signal.throwIfAborted();
    return { kind: 'failure', detail: (error as Error).message };
  }
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
  if (position !== announced) return { kind: 'failure', detail: `the transfer ended after ${position} of ${announced} bytes` };
  if (position !== file.size) return { kind: 'difference', detail: `${position} bytes where the file has ${file.size}` };
  return { kind: 'hit' };
}

function shorten(text: string): string {
  return text.trim().slice(0, 200);
}
