/**
 * A PUT that sends its body only after the server accepts it (`Expect: 100-continue`). undici supports this for HTTP/2 only.
 * https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
 */
import { request } from 'node:http';
import { type Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

/** The response to one request. */
export interface RawResponse {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Readable & { text(): Promise<string>; dump(): Promise<unknown> };
}

interface ContinuePut {
  /** Base URL; plain HTTP only. */
  readonly server: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Called when the server accepts the body. */
  readonly body: () => Readable;
  readonly responseTimeoutMs: number;
  readonly bodyTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** Rejects on network errors, on errors of the body, and when `signal` aborts. */
export function putWithContinue({
  server,
  path,
  headers,
  body: openBody,
  responseTimeoutMs,
  bodyTimeoutMs,
  signal,
}: ContinuePut): Promise<RawResponse> {
  return new Promise((resolve, reject) => {
    const outgoing = request(server, { method: 'PUT', path, headers: { ...headers, expect: '100-continue' }, agent: false, signal });
    outgoing.setTimeout(responseTimeoutMs, () => outgoing.destroy(new Error(`the server did not respond within ${responseTimeoutMs} ms`)));
    outgoing.on('error', reject);
    outgoing.on('continue', () => {
      outgoing.setTimeout(bodyTimeoutMs);
      pipeline(openBody(), outgoing).catch(reject);
    });
    outgoing.on('response', (response) => {
      // The server may respond without accepting the body. Then nothing else ends this request.
      response.on('close', () => outgoing.destroy());
      const body = Object.assign(response, { text: () => text(response), dump: () => pipeline(response, discard()) });
      resolve({ statusCode: response.statusCode as number, headers: response.headers, body });
    });
    outgoing.flushHeaders();
  });
}

function discard(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
