/** Transfers or verifies one file. Every byte that is read from the cache is compared with the file. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { isConnectionFault, UnreachableError } from '../client/connection-fault.ts';
import { type ObjectClient, type ObjectResponse, throughRoute } from '../client/object-client.ts';
import { problemText } from '../client/problem-text.ts';
import type { SourceFile } from './source-files.ts';

type TransferOutcome =
  | { readonly kind: 'hit' }
  | { readonly kind: 'miss' }
  /** The cache returned bytes that differ from the file. This is the most severe outcome. */
  | { readonly kind: 'difference'; readonly detail: string }
  /** `cause` groups failures of one kind, such as `GET 503`; `detail` describes this failure. */
  | { readonly kind: 'failure'; readonly cause: string; readonly detail: string };

/** An outcome, and the number of requests that were sent again. */
export type TransferResult = TransferOutcome & { readonly retries: number };

interface Transfer {
  readonly key: string;
  readonly file: SourceFile;
  readonly signal: AbortSignal;
}

/** Reads an object as a training job does: on a miss, stores the file. */
export function readAside(client: ObjectClient, transfer: Transfer): Promise<TransferResult> {
  return asOutcome(transfer.signal, async (counted) => {
    const found = await getAndCompare(client, transfer, counted);
    return found.kind === 'miss' ? await putFile(client, transfer, counted) : found;
  });
}

/** Reads an object that the cache fetches from its origin. A fetched object is a miss. */
export function readThrough(client: ObjectClient, { key, file, signal }: Transfer): Promise<TransferResult> {
  return asOutcome(signal, async (counted) => {
    const response = await counted(() => client.request('GET', key, { route: throughRoute, signal }));
    if (response.status !== 200) return rejected('GET', key, response.status, await response.body.text());
    const outcome = await compareBody(response, file);
    return outcome.kind === 'hit' && response.headers['x-kura-cache'] !== 'hit' ? { kind: 'miss' } : outcome;
  });
}

/** Compares an object with its file. Identical bytes are a hit. */
export function verifyFile(client: ObjectClient, transfer: Transfer): Promise<TransferResult> {
  return asOutcome(transfer.signal, (counted) => getAndCompare(client, transfer, counted));
}

/** Stores a file. Without `force`, an existing object of the same size is a hit and is not sent again. */
export function warmFile(client: ObjectClient, { force, ...transfer }: Transfer & { force: boolean }): Promise<TransferResult> {
  const { key, file, signal } = transfer;
  return asOutcome(signal, async (counted) => {
    if (!force) {
      const head = await counted(() => client.request('HEAD', key, { signal }));
      await head.body.dump();
      if (head.status === 200 && Number(head.headers['content-length']) === file.size) return { kind: 'hit' };
      if (head.status !== 200 && head.status !== 404) return rejected('HEAD', key, head.status, '');
    }
    return await putFile(client, transfer, counted);
  });
}

type CountRetries = (request: () => Promise<ObjectResponse>) => Promise<ObjectResponse>;

/** The client retries a request until it has a response. A body that breaks off later is read again from its beginning. */
const maxBrokenBodies = 3;

/** Counts the retries and turns errors into outcomes. Rejects when `signal` aborts and with UnreachableError. */
async function asOutcome(signal: AbortSignal, work: (counted: CountRetries) => Promise<TransferOutcome>): Promise<TransferResult> {
  let retries = 0;
  let hasResponse = false;
  const counted: CountRetries = async (request) => {
    hasResponse = false;
    const response = await request();
    hasResponse = true;
    retries += response.retries;
    return response;
  };
  for (let broken = 1; ; broken++) {
    try {
      return { ...(await work(counted)), retries };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof UnreachableError) throw error;
      const isBroken = isConnectionFault(error);
      if (isBroken && hasResponse && broken < maxBrokenBodies) retries++;
      else {
        const { code, message } = error as NodeJS.ErrnoException;
        return { kind: 'failure', cause: isBroken ? 'broken connection' : (code ?? 'error'), detail: message, retries };
      }
    }
  }
}

async function getAndCompare(client: ObjectClient, { key, file, signal }: Transfer, counted: CountRetries): Promise<TransferOutcome> {
  const response = await counted(() => client.request('GET', key, { signal }));
  const { status, body } = response;
  if (status === 200) return await compareBody(response, file);
  const text = await body.text();
  return status === 404 ? { kind: 'miss' } : rejected('GET', key, status, text);
}

async function compareBody({ headers, body }: ObjectResponse, file: SourceFile): Promise<TransferOutcome> {
  // An unread body would keep its connection, and the pool has one connection per worker.
  return await compare(body, { file, contentLength: Number(headers['content-length']) }).finally(() => body.destroy());
}

/** Stores the file of an object that missed. */
async function putFile(client: ObjectClient, { key, file, signal }: Transfer, counted: CountRetries): Promise<TransferOutcome> {
  const { status, body } = await counted(() =>
    client.request('PUT', key, { body: () => createReadStream(file.path), length: file.size, signal }),
  );
  const text = await body.text();
  return status === 201 ? { kind: 'miss' } : rejected('PUT', key, status, text);
}

function rejected(method: string, key: string, status: number, text: string): TransferOutcome {
  return { kind: 'failure', cause: `${method} ${status}`, detail: `${method} ${key} returned ${problemText(status, text)}` };
}

/** Compares chunk by chunk, so that memory use does not depend on the size. */
async function compare(body: Readable, { file, contentLength }: { file: SourceFile; contentLength: number }): Promise<TransferOutcome> {
  const handle = await open(file.path);
  let buffer = Buffer.alloc(64 * 1024);
  let position = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (buffer.length < chunk.length) buffer = Buffer.alloc(chunk.length);
      const { bytesRead } = await handle.read(buffer, 0, chunk.length, position);
      if (!chunk.equals(buffer.subarray(0, bytesRead))) {
        return { kind: 'difference', detail: `bytes differ from the file between ${position} and ${position + chunk.length}` };
      }
      position += chunk.length;
    }
  } finally {
    await handle.close();
  }
  if (position !== contentLength)
    return { kind: 'failure', cause: 'broken transfer', detail: `the transfer ended after ${position} of ${contentLength} bytes` };
  if (position !== file.size) return { kind: 'difference', detail: `the object has ${position} bytes, the file has ${file.size}` };
  return { kind: 'hit' };
}
