/** A PUT whose body is sent when the server asks for it (`Expect: 100-continue`), which undici knows for HTTP/2 only. */
import { request } from 'node:http';
import { type Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

/** The response to one request. */
export interface Reply {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Readable & { text(): Promise<string>; dump(): Promise<unknown> };
}

interface AskingPut {
  /** Base URL, of plain HTTP. */
  readonly server: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Called when the server wants it. */
  readonly body: () => Readable;
  readonly answerLimitMs: number;
  readonly silenceLimitMs: number;
  readonly signal: AbortSignal;
}

/** Rejects on network errors and faults of the body, and when `signal` aborts. */
export function putWhenAsked({ server, path, headers, body, answerLimitMs, silenceLimitMs, signal }: AskingPut): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = request(server, { method: 'PUT', path, headers: { ...headers, expect: '100-continue' }, agent: false, signal });
    outgoing.setTimeout(answerLimitMs, () => outgoing.destroy(new Error('the server does not answer')));
    outgoing.on('error', reject);
    outgoing.on('continue', () => {
      outgoing.setTimeout(silenceLimitMs);
      pipeline(body(), outgoing).catch(reject);
    });
    outgoing.on('response', (response) => {
      // An answer to a body that was not asked for: nobody will end this request.
      response.on('close', () => outgoing.destroy());
      const reading = Object.assign(response, { text: () => text(response), dump: () => pipeline(response, nowhere()) });
      resolve({ statusCode: response.statusCode as number, headers: response.headers, body: reading });
    });
    outgoing.flushHeaders();
  });
}

function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
