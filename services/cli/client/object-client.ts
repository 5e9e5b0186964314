/** The HTTP client of the `kura` command. */
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent } from 'undici';
import { isConnectionFault, UnreachableError } from './connection-fault.ts';
import { ContinuePuts, type RawResponse } from './continue-put.ts';
import { FlowControl } from './flow-control.ts';
import { maxOutageMs, RetryPlan } from './retry-plan.ts';
import { TokenFile } from './token-file.ts';

const responseTimeoutMs = 5_000;
/** The server has 30 s to fetch the first byte of a miss. */
const throughTimeoutMs = 35_000;
const bodyTimeoutMs = 60_000;
/** Smaller bodies are sent without asking for a shard, because the server stores them through Envoy anyway. */
const minDirectBytes = 1024 * 1024;
/** Larger bodies wait for `100 Continue`: a refused upload then sends no body, and no reset can hide its response. */
const maxPlainPutBytes = 1024 * 1024;
/** Short, because a shard may be unreachable and the server is the fallback. Connections to the server are retried. */
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

type Method = 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';

/** The final response, after retries. It is the last 503 or 429 if every try returned one. */
export interface ObjectResponse {
  readonly status: number;
  readonly headers: RawResponse['headers'];
  readonly body: RawResponse['body'];
  /** The number of tries before this one. */
  readonly retries: number;
}

const objectsRoute = '/objects/';
/** The server fetches a miss from the origin of its key. */
export const throughRoute = '/through/';

interface RequestOptions {
  /** The path before the key. The default is that of objects. */
  readonly route?: string;
  /** False: 429 and 503 are final. */
  readonly mayRetryStatus?: boolean;
  /** A function is called for each try. A stream can be sent only once. */
  readonly body?: Readable | (() => Readable);
  readonly length?: number;
  readonly headers?: Headers;
  readonly signal: AbortSignal;
  /** Receives a line when the request begins to wait for the server. */
  readonly report?: ((line: string) => void) | undefined;
}

interface ObjectRequest {
  readonly method: Method;
  readonly route: string;
  readonly key: string;
  readonly mayRetryStatus: boolean;
  readonly body: RequestBody;
  readonly length: number | undefined;
  readonly headers: Headers;
  readonly signal: AbortSignal;
}

type Headers = Readonly<Record<string, string>>;
interface Sending {
  readonly request: ObjectRequest;
  readonly headers: Headers;
  /** A PUT can be redirected only before it sends its body. */
  readonly mayRedirect?: boolean;
}
type Attempt = { readonly response: RawResponse } | { readonly waitMs: number; readonly reason: string };

export class ObjectClient {
  readonly #options: ObjectClientOptions;
  readonly #agent: Agent;
  readonly #continuePuts: ContinuePuts;
  readonly #token: TokenFile;
  readonly #flow: FlowControl;
  #respondedAt = Number.NEGATIVE_INFINITY;
  /** When connections began to fail; undefined after a response. */
  #failingSince: number | undefined;
  /** Direct transfers are possible from this time on; never if the server uses TLS, because it does not redirect then. */
  #directFrom: number;

  constructor(options: ObjectClientOptions) {
    this.#options = options;
    const { server, tokenFile, connections, isDirect } = options;
    const limits = { headersTimeout: responseTimeoutMs, bodyTimeout: bodyTimeoutMs };
    this.#agent = new Agent({ connections, pipelining: 1, ...limits, connect: { timeout: connectTimeoutMs } });
    this.#continuePuts = new ContinuePuts({ connections, responseTimeoutMs, bodyTimeoutMs });
    this.#token = new TokenFile(tokenFile);
    this.#flow = new FlowControl(connections);
    this.#directFrom = isDirect && server.startsWith('http:') ? 0 : Number.POSITIVE_INFINITY;
  }

  /** Why requests wait, such as `429: 4 of 16 workers, wait 3 s`; empty if they do not. */
  get waitReason(): string {
    if (this.#failingSince !== undefined) return `no response for ${seconds(performance.now() - this.#failingSince)}`;
    const { workers, maxWorkers, waitMs } = this.#flow.state;
    if (workers === maxWorkers && waitMs === 0) return '';
    return `429: ${workers} of ${maxWorkers} workers${waitMs === 0 ? '' : `, wait ${seconds(waitMs)}`}`;
  }

  /**
   * Sends a request, and retries it as RetryPlan says. A stream is not retried after it was opened. Rejects with UnreachableError if the
   * server responds to no request for 10 s, with the fault if only this request fails, and when `signal` aborts. The caller must read or
   * dump the response body.
   */
  async request(
    method: Method,
    key: string,
    { route = objectsRoute, mayRetryStatus = true, body, length, headers = {}, signal, report }: RequestOptions,
  ): Promise<ObjectResponse> {
    const request = { method, route, key, mayRetryStatus, body: new RequestBody(body), length, headers, signal };
    const plan = new RetryPlan();
    for (let retries = 0; ; retries++) {
      const attempt = await this.#attempt(request, plan);
      if ('response' in attempt) {
        const { response } = attempt;
        return { status: response.statusCode, headers: response.headers, body: response.body, retries };
      }
      if (retries === 0) report?.(attempt.reason);
      await delay(attempt.waitMs, undefined, { signal });
    }
  }

  /** Throws UnreachableError if the server does not respond. Any response counts. */
  async checkReachable(signal: AbortSignal, report: (line: string) => void): Promise<void> {
    const { server: origin } = this.#options;
    const plan = new RetryPlan();
    for (let retries = 0; ; retries++) {
      try {
        const { body } = await this.#agent.request({ origin, method: 'HEAD', path: '/', signal });
        return void (await body.dump());
      } catch (error) {
        const { waitMs, reason } = this.#waitAfter(error, { plan, signal });
        if (retries === 0) report(reason);
        await delay(waitMs, undefined, { signal });
      }
    }
  }

  async close(): Promise<void> {
    this.#continuePuts.close();
    await this.#agent.destroy();
  }

  /** Sends a request once. `waitMs` is the time before the next try. */
  async #attempt(request: ObjectRequest, plan: RetryPlan): Promise<Attempt> {
    const { body, mayRetryStatus, signal } = request;
    await this.#flow.enter(signal);
    let response: RawResponse | undefined;
    try {
      const startedAt = performance.now();
      response = await this.#exchange(request, { ...request.headers, authorization: `Bearer ${await this.#token.read()}` });
      this.#respondedAt = performance.now();
      this.#failingSince = undefined;
      const next = plan.afterResponse(response, this.#respondedAt);
      if (next.kind === 'done' || body.isSpent || !mayRetryStatus) {
        if (response.statusCode !== 429) this.#flow.accept();
        return { response };
      }
      await response.body.dump();
      if (next.kind === 'retry') return { waitMs: next.waitMs, reason: `the server returned ${response.statusCode}; retrying` };
      // All requests wait, this one included.
      this.#flow.throttle({ startedAt, retryAfterMs: next.retryAfterMs });
      return { waitMs: 0, reason: this.waitReason };
    } catch (error) {
      if (body.isSpent) throw error;
      return this.#waitAfter(error, { plan, signal });
    } finally {
      // A worker is busy until the body of its response has been read.
      if (response === undefined || response.body.closed) this.#flow.leave();
      else response.body.once('close', () => this.#flow.leave());
    }
  }

  /** Throws the fault if a later try cannot help. */
  #waitAfter(error: unknown, { plan, signal }: { plan: RetryPlan; signal: AbortSignal }): { waitMs: number; reason: string } {
    signal.throwIfAborted();
    const { server } = this.#options;
    const { message, code = '' } = error as NodeJS.ErrnoException;
    const fault = message === '' ? code : message;
    if (!isConnectionFault(error)) throw error;
    const now = performance.now();
    this.#failingSince ??= now;
    const waitMs = plan.afterFault(now);
    if (waitMs !== undefined) return { waitMs, reason: `no response from ${server}: ${fault}; retrying for ${maxOutageMs / 1000} s` };
    // Only this request fails.
    if (this.#respondedAt > (plan.failingSince ?? now)) throw error;
    throw new UnreachableError(`no response from ${server} for ${maxOutageMs / 1000} s: ${fault}`, { cause: error });
  }

  /** Sends the request directly to a shard if that is enabled and works, otherwise to the server. */
  async #exchange(request: ObjectRequest, headers: Headers): Promise<RawResponse> {
    const { method, route, key, length } = request;
    const { server } = this.#options;
    const isDirect =
      route === objectsRoute &&
      (method === 'GET' || (method === 'PUT' && (length ?? minDirectBytes) >= minDirectBytes)) &&
      performance.now() >= this.#directFrom;
    const indirectly = () => this.#send(server, route + key, { request, headers });
    if (!isDirect) return indirectly();
    const response = await this.#send(server, `/direct/${key}`, { request, headers, mayRedirect: true });
    const [, shard, target] = (response.statusCode === 307 && /^(http:\/\/[^/]+)(\/.*)$/.exec(String(response.headers.location))) || [];
    if (shard === undefined || target === undefined) return response;
    await response.body.dump();
    return (await this.#sendToShard(shard, target, { request, headers })) ?? indirectly();
  }

  /**
   * Undefined if the shard is unreachable, rejects the ticket as invalid or expired, or has another version now. The caller then sends
   * the request to the server.
   */
  async #sendToShard(
    shard: string,
    target: string,
    { request, headers: { authorization: _, ...headers } }: Sending,
  ): Promise<RawResponse | undefined> {
    const { body, signal } = request;
    try {
      const response = await this.#send(shard, target, { request, headers });
      if (body.isSpent || (response.statusCode !== 403 && response.statusCode !== 404)) return response;
      await response.body.dump();
    } catch (error) {
      signal.throwIfAborted();
      if (body.isSpent) throw error;
      this.#directFrom = performance.now() + directPauseMs;
    }
    return undefined;
  }

  #send(origin: string, path: string, { request, headers, mayRedirect = false }: Sending): Promise<RawResponse> {
    const { method, route, body, length, signal } = request;
    const sized = length === undefined ? headers : { ...headers, 'content-length': String(length) };
    if (method === 'PUT' && (mayRedirect || length === undefined || length > maxPlainPutBytes))
      return this.#continuePuts.send({ origin, path, headers: sized, body: () => body.open() as Readable, signal });
    const headersTimeout = route === throughRoute ? throughTimeoutMs : responseTimeoutMs;
    return this.#agent.request({ origin, method, path, headers: sized, body: body.open() ?? null, headersTimeout, signal });
  }
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 1000)} s`;
}

/** The body of a request, which may be sent several times. */
class RequestBody {
  readonly #source: RequestOptions['body'];
  #isOpened = false;

  constructor(source: RequestOptions['body']) {
    this.#source = source;
  }

  /** Whether a stream was opened, so that the request cannot be repeated. */
  get isSpent(): boolean {
    return this.#isOpened && typeof this.#source === 'object';
  }

  open(): Readable | undefined {
    this.#isOpened = true;
    return typeof this.#source === 'function' ? this.#source() : this.#source;
  }
}
