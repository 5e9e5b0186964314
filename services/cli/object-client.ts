/** kura over HTTP, as its own tools speak it. */
import { readFile, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent } from 'undici';
import { putWhenAsked, type Reply } from './put-when-asked.ts';
import { UsageError } from './usage-error.ts';

/** Only «a dependency is down» is worth another try; all else is an answer. */
const retryStatus = 503;
const tries = 4;
const firstBackOffMs = 200;
const answerLimitMs = 5_000;
const silenceLimitMs = 60_000;
const tokenAgeMs = 1_000;
/** Smaller bodies are sent without asking where to: a shard would take them through Envoy anyway. */
const askFromBytes = 256 * 1024;
/** A shard that cannot be reached is behind a network policy, and so are all. */
const connectLimitMs = 2_000;
const noDirectMs = 30_000;

interface ObjectClientOptions {
  /** Base URL, such as `http://kura.kura-system`. */
  readonly server: string;
  readonly tokenFile: string;
  readonly connections: number;
  /** Large bodies straight from and to the shards, where these can be reached; otherwise through the server. */
  readonly isDirect: boolean;
}

type Method = 'GET' | 'HEAD' | 'PUT' | 'DELETE';

/** The server's answer, or the last 503 after a few tries. */
export interface Answer {
  readonly status: number;
  readonly headers: Reply['headers'];
  readonly body: Reply['body'];
  /** How often a 503 was answered before. */
  readonly retries: number;
}

interface Request {
  readonly method: Method;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A stream can be sent once, whatever the answer. */
  readonly body: Readable | (() => Readable) | undefined;
  readonly length: number | undefined;
  readonly signal: AbortSignal;
}

export class ObjectClient {
  readonly #options: ObjectClientOptions;
  readonly #agent: Agent;
  #token: { readonly text: string; readonly modifiedAt: number; readonly readAt: number } | undefined;
  /** When shards may be tried again; a server that speaks TLS sends nobody to them. */
  #directFrom: number;

  constructor(options: ObjectClientOptions) {
    this.#options = options;
    const { server, connections, isDirect } = options;
    const limits = { headersTimeout: answerLimitMs, bodyTimeout: silenceLimitMs };
    this.#agent = new Agent({ connections, pipelining: 1, ...limits, ...(isDirect ? { connect: { timeout: connectLimitMs } } : {}) });
    this.#directFrom = isDirect && server.startsWith('http:') ? 0 : Number.POSITIVE_INFINITY;
  }

  /**
   * One request, repeated with back-off while the answer is 503. `body` is asked for anew for each try; a stream is sent once, whatever the answer. Rejects on
   * network errors and when `signal` aborts; the caller reads the answer's body or dumps it.
   */
  async request(
    method: Method,
    key: string,
    { body, length, signal }: { body?: Readable | (() => Readable); length?: number; signal: AbortSignal },
  ): Promise<Answer> {
    for (let retries = 0; ; retries++) {
      const headers: Record<string, string> = { authorization: `Bearer ${await this.#readToken()}` };
      if (length !== undefined) headers['content-length'] = String(length);
      const answer = await this.#ask({ method, key, headers, body, length, signal });
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
      const { body } = await this.#agent.request({ origin: server, method: 'HEAD', path: '/', signal });
      await body.dump();
    } catch (error) {
      signal.throwIfAborted();
      throw new UsageError(`nothing answers at ${server}: ${(error as Error).message}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  /** Straight where that is wanted and works, otherwise through the server. */
  async #ask(request: Request): Promise<Reply> {
    const { method, key, headers, length = askFromBytes } = request;
    const { server } = this.#options;
    const isDirect = (method === 'GET' || (method === 'PUT' && length >= askFromBytes)) && performance.now() >= this.#directFrom;
    if (!isDirect) return this.#send(server, `/objects/${key}`, request);
    const path = `/direct/${key}`;
    const reply =
      method === 'GET'
        ? await this.#send(server, path, request)
        : await putWhenAsked({ ...request, server, path, headers, body: () => bodyOf(request) as Readable, answerLimitMs, silenceLimitMs });
    const [, shard, target] = (reply.statusCode === 307 && /^(http:\/\/[^/]+)(\/.*)$/.exec(String(reply.headers.location))) || [];
    if (shard === undefined || target === undefined) return reply;
    await reply.body.dump();
    return (await this.#sendToShard(shard, target, request)) ?? this.#send(server, `/objects/${key}`, request);
  }

  /** Undefined when the shard cannot be reached, does not know the ticket (any more), or has another version now: then the server is asked. */
  async #sendToShard(shard: string, target: string, request: Request): Promise<Reply | undefined> {
    const { authorization: _, ...headers } = request.headers;
    const isRepeatable = typeof request.body !== 'object';
    try {
      const reply = await this.#send(shard, target, { ...request, headers });
      if (!isRepeatable || (reply.statusCode !== 403 && reply.statusCode !== 404)) return reply;
      await reply.body.dump();
    } catch (error) {
      request.signal.throwIfAborted();
      if (!isRepeatable) throw error;
      this.#directFrom = performance.now() + noDirectMs;
    }
    return undefined;
  }

  #send(origin: string, path: string, request: Request): Promise<Reply> {
    const { method, headers, signal } = request;
    return this.#agent.request({ origin, method, path, headers, body: bodyOf(request) ?? null, signal });
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

function bodyOf({ body }: Request): Readable | undefined {
  return typeof body === 'function' ? body() : body;
}
