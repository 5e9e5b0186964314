/**
 * Sends the body of an origin to a shard, up to the last announced byte. `pipeline` of Node would do, but it builds two errors with stack
 * traces for each body that ends well, and a Transform counts at the cost of one more stream.
 */
import type { ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';

interface SendBodyOptions {
  /** Undefined: the origin does not announce it. */
  readonly bodyBytes: number | undefined;
  /** For a body without a length. */
  readonly maxBytes: number;
  readonly onBytes: (bytes: number) => void;
}

export type BodyEnd =
  | { readonly kind: 'whole' }
  /** The shard has closed its connection. */
  | { readonly kind: 'aborted' }
  | { readonly kind: 'too-large'; readonly bytes: number }
  | { readonly kind: 'broken'; readonly reason: string };

/** The shard leaves after a byte too many. */
const maxLeaveMs = 5_000;

/** Destroys the response unless the body is whole: only a broken connection shows that it is not. */
export async function sendBody(body: Readable, response: ServerResponse, options: SendBodyOptions): Promise<BodyEnd> {
  const { bodyBytes, maxBytes, onBytes } = options;
  const { promise: ended, resolve: end } = Promise.withResolvers<BodyEnd>();
  let sent = 0;
  let late: NodeJS.Timeout | undefined;
  const isTooLarge = () => bodyBytes === undefined && sent > maxBytes;
  body.pipe(response, { end: false });
  body.on('data', (chunk: Buffer) => {
    sent += chunk.length;
    onBytes(chunk.length);
    if (!isTooLarge() || late !== undefined) return;
    // The shard responds with the problem when it has read this chunk. A broken connection could discard the chunk.
    body.unpipe(response).pause();
    late = setTimeout(end, maxLeaveMs, { kind: 'too-large', bytes: sent });
  });
  body.on('end', () => {
    // Its last chunk was the one too many. The end of the response would make it look whole.
    if (isTooLarge()) return;
    if (bodyBytes === undefined || sent === bodyBytes) response.end();
    else end({ kind: 'broken', reason: `it has ${sent} of ${bodyBytes} bytes` });
  });
  body.on('error', (error) => end({ kind: 'broken', reason: error.message }));
  // Without `end` and `error`, another part of the service has destroyed the body.
  body.on('close', () => body.readableEnded || end({ kind: 'broken', reason: 'it was closed' }));
  response.on('finish', () => end({ kind: 'whole' }));
  response.on('close', () => end(isTooLarge() ? { kind: 'too-large', bytes: sent } : { kind: 'aborted' }));
  if (response.destroyed) end({ kind: 'aborted' });
  const result = await ended;
  clearTimeout(late);
  if (result.kind !== 'whole') {
    body.destroy();
    response.destroy();
  }
  return result;
}
