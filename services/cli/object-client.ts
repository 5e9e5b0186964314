/** kura over HTTP, as its own tools speak it. */
import { readFile, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { type Dispatcher, Pool } from 'undici';
import { UsageError } from './usage-error.ts';

/** Only «a dependency is down» is worth another try; all else is an answer. */
const retryStatus = 503;
const tries = 4;
const firstBackOffMs = 200;
const answerLimitMs = 5_000;
const silenceLimitMs = 60_000;
const tokenAgeMs = 1_000;

export interface ObjectClientOptions {
  /** Base URL, such as `http://kura.kura-system`. */
  readonly server: string;
  readonly tokenFile: string;
  readonly connections: number;
}

/** The server's answer, or the last 503 after a few tries. */
export interface Answer {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData['headers'];
  readonly body: Dispatcher.ResponseData['body'];
  /** How often a 503 was answered before. */
  readonly retries: number;
}

export class ObjectClient {
  readonly #options: ObjectClientOptions;
  readonly #pool: Pool;
  #token: { readonly text: string; readonly modifiedAt: number; readonly readAt: number } | undefined;

  constructor(options: ObjectClientOptions) {
    this.#options = options;
    const { server, connections } = options;
    this.#pool = new Pool(server, { connections, pipelining: 1, headersTimeout: answerLimitMs, bodyTimeout: silenceLimitMs });
  }

  /**
   * One request, repeated with back-off while the answer is 503. `body` is asked for anew for each try; a stream is sent once, whatever the answer. Rejects on
   * network errors and when `signal` aborts; the caller reads the answer's body or dumps it.
   */
  async request(
    method: 'GET' | 'HEAD' | 'PUT' | 'DELETE',
    key: string,
    { body, length, signal }: { body?: Readable | (() => Readable); length?: number; signal: AbortSignal },
  ): Promise<Answer> {
    for (let retries = 0; ; retries++) {
      const headers: Record<string, string> = { authorization: `Bearer ${await this.#readToken()}` };
      if (length !== undefined) headers['content-length'] = String(length);
      const answer = await this.#pool.request({
        method,
        path: `/objects/${key}`,
        headers,
        body: typeof body === 'function' ? body() : (body ?? null),
        signal,
      });
      if (answer.statusCode !== retryStatus || retries + 1 >= tries || typeof body === 'object') {
        return { status: answer.statusCode, headers: answer.headers, body: answer.body, retries };
      }
      await answer.body.dump();
      await delay(firstBackOffMs * 2 ** retries * (0.5 + Math.random() / 2), undefined, { signal });
    }
  }

  /** Throws UsageError when nothing answers at the server's address; any answer will do. */
  async reach(signal: AbortSignal): Promise<void> {
    const { server } = this.#options;
    try {
      const { body } = await this.#pool.request({ method: 'HEAD', path: '/', signal });
      await body.dump();
    } catch (error) {
      signal.throwIfAborted();
      throw new UsageError(`nothing answers at ${server}: ${(error as Error).message}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }

  /** The kubelet replaces the file in mid-run. */
  async #readToken(): Promise<string> {
    const { tokenFile } = this.#options;
    const known = this.#token;
    if (known !== undefined && performance.now() - known.readAt < tokenAgeMs) return known.text;
    const { mtimeMs } = await stat(tokenFile);
    const text = known?.modifiedAt === mtimeMs ? known.text : (await readFile(tokenFile, 'utf8')).trim();
    this.#token = { text, modifiedAt: mtimeMs, readAt: performance.now() };
    return text;
  }
}
