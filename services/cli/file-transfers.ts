/** What is done with one file and its object. Every byte that is read is compared with the file. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { SourceFile } from './files.ts';
import type { Answer, ObjectClient } from './object-client.ts';
import { problemOf } from './problem-of.ts';

type ReadOutcome =
  | { readonly kind: 'hit' }
  | { readonly kind: 'miss' }
  /** The cache gave other bytes than the file has: the worst that can happen. */
  | { readonly kind: 'difference'; readonly detail: string }
  /** `cause` groups failures of one kind, such as `GET 503`; `detail` is about this one. */
  | { readonly kind: 'failure'; readonly cause: string; readonly detail: string };

/** An outcome, and how many answers of 503 came before it. */
export type Read = ReadOutcome & { readonly retries: number };

interface Transfer {
  readonly key: string;
  readonly file: SourceFile;
  readonly signal: AbortSignal;
}

/** Reads an object as a training job would: on a miss the file is put into the cache. */
export function readThrough(client: ObjectClient, transfer: Transfer): Promise<Read> {
  return asOutcome(transfer.signal, async (ask) => {
    const found = await getAndCompare(client, transfer, ask);
    return found.kind === 'miss' ? await putFile(client, transfer, ask) : found;
  });
}

/** Compares an object with its file: a hit where they are the same. */
export function verifyFile(client: ObjectClient, transfer: Transfer): Promise<Read> {
  return asOutcome(transfer.signal, (ask) => getAndCompare(client, transfer, ask));
}

/** Puts a file into the cache unless an object of its size is there (a hit), or `force`. */
export function warmFile(client: ObjectClient, { force, ...transfer }: Transfer & { force: boolean }): Promise<Read> {
  const { key, file, signal } = transfer;
  return asOutcome(signal, async (ask) => {
    if (!force) {
      const head = await ask(() => client.request('HEAD', key, { signal }));
      await head.body.dump();
      if (head.status === 200 && Number(head.headers['content-length']) === file.size) return { kind: 'hit' };
      if (head.status !== 200 && head.status !== 404) return refused('HEAD', head.status, '');
    }
    return await putFile(client, transfer, ask);
  });
}

type Ask = (request: () => Promise<Answer>) => Promise<Answer>;

/** Counts the 503s, and makes an outcome of whatever goes wrong. Rejects only when `signal` aborts. */
async function asOutcome(signal: AbortSignal, work: (ask: Ask) => Promise<ReadOutcome>): Promise<Read> {
  let retries = 0;
  const ask: Ask = async (request) => {
    const answer = await request();
    retries += answer.retries;
    return answer;
  };
  try {
    return { ...(await work(ask)), retries };
  } catch (error) {
    signal.throwIfAborted();
    const { code, message } = error as NodeJS.ErrnoException;
    const cause = code === undefined || code.startsWith('UND_ERR') ? 'broken connection' : code;
    return { kind: 'failure', cause, detail: message, retries };
  }
}

async function getAndCompare(client: ObjectClient, { key, file, signal }: Transfer, ask: Ask): Promise<ReadOutcome> {
  const { status, headers, body } = await ask(() => client.request('GET', key, { signal }));
  if (status === 200) {
    // A body that is not read to its end would keep its connection, and the pool has one a worker.
    return await compare(body, { file, announced: Number(headers['content-length']) }).finally(() => body.destroy());
  }
  const text = await body.text();
  return status === 404 ? { kind: 'miss' } : refused('GET', status, text);
}

/** A miss that is none any more. */
async function putFile(client: ObjectClient, { key, file, signal }: Transfer, ask: Ask): Promise<ReadOutcome> {
  const { status, body } = await ask(() =>
    client.request('PUT', key, { body: () => createReadStream(file.path), length: file.size, signal }),
  );
  const text = await body.text();
  return status === 201 ? { kind: 'miss' } : refused('PUT', status, text);
}

function refused(method: string, status: number, text: string): ReadOutcome {
  return { kind: 'failure', cause: `${method} ${status}`, detail: `${method} answered ${problemOf(status, text)}` };
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
