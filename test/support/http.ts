import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import type { Readable } from 'node:stream';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** False if the connection broke before the body was complete. */
  readonly complete: boolean;
  /** From the request to the end of the response. */
  readonly tookMs: number;
}

export interface Call {
  readonly method?: string;
  /** Sent unchanged: neither normalized nor encoded. */
  readonly path: string;
  readonly token?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Buffer | string | Readable;
  /** Sends the body only after a 100 response. */
  readonly expect?: boolean;
  /** Ends the connection. Without it, a peer that vanishes keeps the test's process alive. */
  readonly signal?: AbortSignal;
}

/** Sends one request on a new connection. Rejects if there is no response. */
export function call(
  url: string,
  { method = 'GET', path, token, headers = {}, body, expect = false, signal }: Call,
): Promise<Answer & { bodySent: boolean }> {
  const startedAt = performance.now();
  return new Promise((resolve, reject) => {
    let bodySent = false;
    const outgoing = request(url, {
      method,
      path,
      agent: false,
      ...(signal === undefined ? {} : { signal }),
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(expect ? { expect: '100-continue' } : {}),
        ...headers,
      },
    });
    const sendBody = (): void => {
      bodySent = body !== undefined;
      if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) outgoing.end(body);
      else body.pipe(outgoing);
    };
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      const chunks: Buffer[] = [];
      const finish = (): void => {
        outgoing.destroy();
        resolve({
          status: response.statusCode as number,
          headers: response.headers,
          body: Buffer.concat(chunks),
          complete: response.complete,
          tookMs: performance.now() - startedAt,
          bodySent,
        });
      };
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', finish);
      response.on('error', finish);
    });
    if (expect) {
      outgoing.on('continue', sendBody);
      outgoing.flushHeaders();
    } else sendBody();
  });
}
