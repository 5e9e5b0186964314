/**
 * PUTs that send their body only after the server accepts it (`Expect: 100-continue`). undici supports this for HTTP/2 only.
 * https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
 */
import http from 'node:http';
import https from 'node:https';
import { type Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

/** A server that does not know the expectation never accepts the body, and the client must not wait for it forever. */
const maxAcceptanceMs = 3_000;

/** The response to one request. */
export interface RawResponse {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Readable & { text(): Promise<string>; dump(): Promise<unknown> };
}

interface ContinuePut {
  /** Such as `http://kura.kura-system`. */
  readonly origin: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Called when the server accepts the body. */
  readonly body: () => Readable;
  readonly signal: AbortSignal;
}

interface Options {
  readonly connections: number;
  /** The time for the response when the body has been sent, and for each step of the body. */
  readonly responseTimeoutMs: number;
  readonly bodyTimeoutMs: number;
}

export class ContinuePuts {
  readonly #options: Options;
  readonly #agents: { readonly http: http.Agent; readonly https: https.Agent };

  constructor(options: Options) {
    this.#options = options;
    const limits = { keepAlive: true, maxSockets: options.connections };
    this.#agents = { http: new http.Agent(limits), https: new https.Agent(limits) };
  }

  /** Rejects on network errors, on errors of the body, and when `signal` aborts. */
  send({ origin, path, headers, body: openBody, signal }: ContinuePut): Promise<RawResponse> {
    const { responseTimeoutMs, bodyTimeoutMs } = this.#options;
    const isSecure = origin.startsWith('https:');
    const [{ request }, agent] = isSecure ? [https, this.#agents.https] : [http, this.#agents.http];
    return new Promise((resolve, reject) => {
      const outgoing = request(origin, { method: 'PUT', path, headers: { ...headers, expect: '100-continue' }, agent, signal });
      let isAccepted = false;
      const sendBody = (): void => {
        clearTimeout(acceptance);
        if (isAccepted) return;
        isAccepted = true;
        outgoing.setTimeout(bodyTimeoutMs);
        pipeline(openBody(), outgoing).catch(reject);
      };
      const acceptance = setTimeout(sendBody, maxAcceptanceMs);
      outgoing.setTimeout(responseTimeoutMs);
      outgoing.on('timeout', () => outgoing.destroy(Object.assign(new Error('the server did not respond in time'), { code: 'ETIMEDOUT' })));
      outgoing.on('error', reject);
      outgoing.on('close', () => clearTimeout(acceptance));
      outgoing.on('continue', sendBody);
      outgoing.on('response', (response) => {
        clearTimeout(acceptance);
        const isStored = response.statusCode === 201;
        // A server that refuses the upload may have read only a part of the body. Then nothing else ends this request.
        response.on('close', () => isStored || outgoing.destroy());
        const body = Object.assign(response, { text: () => text(response), dump: () => pipeline(response, discard()) });
        resolve({ statusCode: response.statusCode as number, headers: response.headers, body });
      });
      outgoing.flushHeaders();
    });
  }

  close(): void {
    this.#agents.http.destroy();
    this.#agents.https.destroy();
  }
}

function discard(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
