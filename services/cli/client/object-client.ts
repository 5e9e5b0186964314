/** The HTTP client of the `kura` command. */
import { readFile, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent } from 'undici';
import { UsageError } from '../usage-error.ts';
import { putWithContinue, type RawResponse } from './continue-put.ts';

/** Only 503 means that a later attempt can succeed. */
const retryStatus = 503;
const maxTries = 4;
const firstBackoffMs = 200;
const responseTimeoutMs = 5_000;
const bodyTimeoutMs = 60_000;
/** The token file is checked again after this time. */
const maxTokenAgeMs = 1_000;
/** Smaller bodies are sent without asking for a shard, because the server stores them through Envoy anyway. */
const minDirectBytes = 256 * 1024;
/** The connection timeout if transfers go directly to the shards. */
const connectTimeoutMs = 2_000;
/** After a failed connection to a shard, all requests use the server for this time: a network policy blocks either all shards or none. */
const directPauseMs = 30_000;

interface ObjectClientOptions {
  /** Base URL, such as `http://kura.kura-system`. */
  readonly server: string;
  readonly tokenFile: string;
  readonly connections: number;
  /** Transfer large bodies directly from and to the shards. The server is the fallback for shards that are not reachable. */
  readonly isDirect: boolean;
}

type Method = 'GET' | 'HEAD' | 'PUT' | 'DELETE';

/** The final response, after retries. It is the last 503 if every try returned 503. */
export interface ObjectResponse {
  readonly status: number;
  readonly headers: RawResponse['headers'];
  readonly body: RawResponse['body'];
  /** The number of 503 responses before this one. */
  readonly retries: number;
}

interface ObjectRequest {
  readonly method: Method;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A stream can be sent only once. A function opens a new stream for each try. */
  readonly body: Readable | (() => Readable) | undefined;
  readonly length: number | undefined;
  readonly signal: AbortSignal;
}

export class ObjectClient {
  readonly #options: ObjectClientOptions;
  readonly #agent: Agent;
  #token: { readonly text: string; readonly modifiedAt: number; readonly readAt: number } | undefined;
  /** Direct transfers are possible from this time on; never if the server uses TLS, because it does not redirect then. */
  #directFrom: number;

  constructor(options: ObjectClientOptions) {
    this.#options = options;
    const { server, connections, isDirect } = options;
    const limits = { headersTimeout: responseTimeoutMs, bodyTimeout: bodyTimeoutMs };
    this.#agent = new Agent({ connections, pipelining: 1, ...limits, ...(isDirect ? { connect: { timeout: connectTimeoutMs } } : {}) });
    this.#directFrom = isDirect && server.startsWith('http:') ? 0 : Number.POSITIVE_INFINITY;
  }

  /**
   * Sends a request and retries it with backoff while the response is 503. A `body` function is called for each try; a stream is sent
   * once and never retried. Rejects on network errors and when `signal` aborts. The caller must read or dump the response body.
   */
  async request(
    method: Method,
    key: string,
    { body, length, signal }: { body?: Readable | (() => Readable); length?: number; signal: AbortSignal },
  ): Promise<ObjectResponse> {
    for (let retries = 0; ; retries++) {
      const headers: Record<string, string> = { authorization: `Bearer ${await this.#readToken()}` };
      if (length !== undefined) headers['content-length'] = String(length);
      const response = await this.#exchange({ method, key, headers, body, length, signal });
      if (response.statusCode !== retryStatus || retries + 1 >= maxTries || typeof body === 'object') {
        return { status: response.statusCode, headers: response.headers, body: response.body, retries };
      }
      await response.body.dump();
      await delay(firstBackoffMs * 2 ** retries * (0.5 + Math.random() / 2), undefined, { signal });
    }
  }

  /** Throws UsageError if the server does not respond. Any response counts. */
  async checkReachable(signal: AbortSignal): Promise<void> {
    const { server } = this.#options;
    try {
      const { body } = await this.#agent.request({ origin: server, method: 'HEAD', path: '/', signal });
      await body.dump();
    } catch (error) {
      signal.throwIfAborted();
      throw new UsageError(`no response from ${server}: ${(error as Error).message}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  /** Sends the request directly to a shard if that is enabled and works, otherwise to the server. */
  async #exchange(request: ObjectRequest): Promise<RawResponse> {
    const { method, key, headers, length = minDirectBytes } = request;
    const { server } = this.#options;
    const isDirect = (method === 'GET' || (method === 'PUT' && length >= minDirectBytes)) && performance.now() >= this.#directFrom;
    if (!isDirect) return this.#send(server, `/objects/${key}`, request);
    const path = `/direct/${key}`;
    const response =
      method === 'GET'
        ? await this.#send(server, path, request)
        : await putWithContinue({
            ...request,
            server,
            path,
            headers,
            body: () => bodyOf(request) as Readable,
            responseTimeoutMs,
            bodyTimeoutMs,
          });
    const [, shard, target] = (response.statusCode === 307 && /^(http:\/\/[^/]+)(\/.*)$/.exec(String(response.headers.location))) || [];
    if (shard === undefined || target === undefined) return response;
    await response.body.dump();
    return (await this.#sendToShard(shard, target, request)) ?? this.#send(server, `/objects/${key}`, request);
  }

  /**
   * Undefined if the shard is unreachable, rejects the ticket as invalid or expired, or has another version now. The caller then sends
   * the request to the server.
   */
  async #sendToShard(shard: string, target: string, request: ObjectRequest): Promise<RawResponse | undefined> {
    const { authorization: _, ...headers } = request.headers;
    const isRepeatable = typeof request.body !== 'object';
    try {
      const response = await this.#send(shard, target, { ...request, headers });
      if (!isRepeatable || (response.statusCode !== 403 && response.statusCode !== 404)) return response;
      await response.body.dump();
    } catch (error) {
      request.signal.throwIfAborted();
      if (!isRepeatable) throw error;
      this.#directFrom = performance.now() + directPauseMs;
    }
    return undefined;
  }

  #send(origin: string, path: string, request: ObjectRequest): Promise<RawResponse> {
    const { method, headers, signal } = request;
    return this.#agent.request({ origin, method, path, headers, body: bodyOf(request) ?? null, signal });
  }

  /** The kubelet replaces the token file while the command runs. */
  async #readToken(): Promise<string> {
    const { tokenFile } = this.#options;
    const known = this.#token;
    if (known !== undefined && performance.now() - known.readAt < maxTokenAgeMs) return known.text;
    const { mtimeMs } = await stat(tokenFile);
    const text = known?.modifiedAt === mtimeMs ? known.text : (await readFile(tokenFile, 'utf8')).trim();
    this.#token = { text, modifiedAt: mtimeMs, readAt: performance.now() };
    return text;
  }
}

function bodyOf({ body }: ObjectRequest): Readable | undefined {
  return typeof body === 'function' ? body() : body;
}
