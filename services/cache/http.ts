/** The edge that knows all of HTTP/1.1: Node's own server. Requests in plain form are answered by plain-connection.ts; what that does not know exactly comes here. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type Key, parseTarget } from '../shared/key.ts';
import { problemContentType } from '../shared/problem.ts';
import { planRead } from './answer.ts';
import { sendBody } from './body.ts';
import { type ProblemCode, problemAnswer } from './problems.ts';
import { drain, receivePut } from './receive.ts';
import type { ObjectService } from './service.ts';
import { readShare } from './shares.ts';
import type { Method, Result } from './tally.ts';
import { maxContentTypeBytes, maxNamespaceBytes } from './trailer.ts';

export const allowedMethods = 'GET, HEAD, PUT, DELETE';
/** Heads beyond this are refused; a key has 1 KiB at most, and Envoy's own limit is 60 KiB. */
export const maxHeadBytes = 16 * 1024;
/** A head that takes longer to come than this is a slowloris. */
export const headTimeoutMs = 10_000;

/** The server, not listening: connections are given to it, each for one request (decisions.md). */
export function createHttpServer(service: ObjectService): Server {
  const server = createServer({ maxHeaderSize: maxHeadBytes, connectionsCheckingInterval: headTimeoutMs / 5 });
  // Node's 300 s for a whole request would turn a long PUT into a 408; a stall is what writerTimeout is for.
  server.requestTimeout = 0;
  server.headersTimeout = headTimeoutMs;
  const handle = (request: IncomingMessage, response: ServerResponse) => {
    new Exchange(service, request, response).run().catch(() => request.socket.destroy());
  };
  server.on('request', handle);
  server.on('checkContinue', handle);
  server.on('checkExpectation', handle);
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => refuseConnection(service, error, socket as Socket));
  return server;
}

/** One request and its answer. */
class Exchange {
  readonly #service: ObjectService;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #startedMs = performance.now();
  #isContinued = false;

  constructor(service: ObjectService, request: IncomingMessage, response: ServerResponse) {
    this.#service = service;
    this.#request = request;
    this.#response = response;
    response.setHeader('x-kura-shard', service.name);
    response.setHeader('connection', 'close');
  }

  async run(): Promise<void> {
    const target = originForm(this.#request.url ?? '');
    if (target === '/healthz') return this.#health();
    if (!this.#service.credentials.accepts(single(this.#request.headers['x-kura-credential']))) {
      this.#service.tally.badCredentials += 1;
      return this.#refuse('bad-credential');
    }
    const { expect } = this.#request.headers;
    if (expect !== undefined && !isExpecting(this.#request)) return this.#refuse('expectation-failed');
    const parsed = parseTarget(target);
    switch (parsed.kind) {
      case 'other-path':
        return this.#refuse('no-such-path');
      case 'bad-key':
        return this.#refuse('bad-key');
      case 'key':
        break;
      default:
        return parsed satisfies never;
    }
    switch (this.#request.method) {
      case 'GET':
      case 'HEAD':
        return this.#read(parsed.key);
      case 'PUT':
        return this.#put(parsed.key);
      case 'DELETE':
        return this.#delete(parsed.key);
      default:
        this.#response.setHeader('allow', allowedMethods);
        return this.#refuse('method-not-allowed');
    }
  }

  #health(): void {
    const reason = this.#service.notReady();
    this.#request.resume();
    this.#response.writeHead(reason === undefined ? 200 : 503, { 'content-type': 'text/plain' }).end(`${reason ?? 'ok'}\n`);
  }

  async #read(key: Key): Promise<void> {
    const { store } = this.#service;
    this.#request.resume();
    const object = await store.open(key);
    if (object === undefined) return this.#refuse('miss', 'miss');
    try {
      const isHead = this.#request.method === 'HEAD';
      const { range, 'if-range': ifRange, 'if-none-match': ifNoneMatch } = this.#request.headers;
      const plan = planRead(object, isHead, { range, ifRange: ifRange as string | undefined, ifNoneMatch });
      const isWarm = store.use(object);
      const response = this.#response.setHeader('etag', object.tag).setHeader('accept-ranges', 'bytes');
      switch (plan.kind) {
        case 'not-modified':
          response.writeHead(304).end();
          return this.#count('notModified');
        case 'unsatisfiable':
          response.setHeader('content-range', `bytes */${object.length}`);
          return await this.#refuse('range-not-satisfiable');
        case 'whole':
        case 'part':
          break;
        default:
          return plan satisfies never;
      }
      if (object.contentType !== '') response.setHeader('content-type', object.contentType);
      if (plan.kind === 'part') response.setHeader('content-range', `bytes ${plan.start}-${plan.end - 1}/${object.length}`);
      const status = plan.kind === 'part' ? 206 : 200;
      response.setHeader('content-length', plan.end - plan.start);
      if (isHead || plan.end === plan.start) response.writeHead(status).end();
      else await this.#sendBody(object, plan, status, isWarm);
      this.#count(plan.kind === 'part' ? 'partial' : 'hit');
    } finally {
      object.release();
    }
  }

  async #sendBody(
    object: Parameters<typeof sendBody>[0]['object'],
    plan: { start: number; end: number },
    status: number,
    isWarm: boolean,
  ): Promise<void> {
    const { reader, buffers, readerTimeoutMs: timeoutMs, tally } = this.#service;
    let isBegun = false;
    const begin = () => {
      isBegun = true;
      this.#response.writeHead(status);
    };
    try {
      await sendBody(
        { object, start: plan.start, end: plan.end, isWarm, to: this.#response, head: undefined, reader, buffers, timeoutMs },
        begin,
      );
      tally.bytesOut += plan.end - plan.start;
      this.#response.end();
    } catch (error) {
      // Nothing was sent yet: what cannot be read is a miss. In mid-body only a broken transfer says that it is not whole.
      if (isBegun) throw error;
      for (const name of ['etag', 'accept-ranges', 'content-length', 'content-range']) this.#response.removeHeader(name);
      await this.#refuse('miss', 'miss');
    }
  }

  async #put(key: Key): Promise<void> {
    const { store, onFault } = this.#service;
    const headers = this.#request.headers;
    const limit = headers['x-kura-max-object-bytes'];
    if (limit !== undefined && !/^\d{1,15}$/.test(limit as string)) return this.#refuse('bad-header');
    const share = headers['x-kura-max-share'];
    const maxShare = share === undefined ? undefined : readShare(share as string);
    if (share !== undefined && maxShare === undefined) return this.#refuse('bad-header');
    const put = {
      key,
      length: headers['content-length'] === undefined ? lengthWithout(headers) : Number(headers['content-length']),
      contentType: keep(headers['content-type'], maxContentTypeBytes),
      namespace: keep(headers['x-kura-namespace'], maxNamespaceBytes),
      maxObjectBytes: limit === undefined ? Number.POSITIVE_INFINITY : Number(limit),
      maxShare,
    };
    if (put.length !== undefined && put.length > put.maxObjectBytes) return this.#refuse('too-large');
    const body = this.#body();
    const outcome = await receivePut({ store, put, body, onFault });
    switch (outcome.kind) {
      case 'stored':
        this.#response.writeHead(201, { etag: outcome.tag, 'content-length': 0 }).end();
        return this.#count('stored');
      case 'not-kept':
        this.#response.writeHead(201, { 'x-kura-stored': 'no', 'content-length': 0 }).end();
        return this.#count('notStored');
      case 'refused':
        return this.#refuse(outcome.code);
      default:
        return outcome satisfies never;
    }
  }

  async #delete(key: Key): Promise<void> {
    this.#request.resume();
    let isGone: boolean;
    try {
      isGone = await this.#service.store.remove(key);
    } catch (error) {
      this.#service.onFault(error, 'write');
      return this.#refuse('disk-fault', 'failed');
    }
    if (!isGone) return this.#refuse('miss', 'miss');
    this.#response.writeHead(204).end();
    this.#count('deleted');
  }

  /** The request's body; stalls and broken transfers throw. */
  async *#body(): AsyncGenerator<Buffer> {
    const { socket } = this.#request;
    const { writerTimeoutMs, tally } = this.#service;
    const cut = () => {
      tally.cutOff += 1;
      socket.destroy();
    };
    socket.setTimeout(writerTimeoutMs, cut);
    // Only now, with the upload admitted: a refused one costs its sender nothing.
    if (isExpecting(this.#request) && !this.#isContinued) this.#response.writeContinue();
    this.#isContinued = true;
    try {
      // Leaving the loop early must not destroy the connection: the rest may still be dropped and the refusal sent.
      for await (const chunk of this.#request.iterator({ destroyOnReturn: false })) {
        tally.bytesIn += (chunk as Buffer).length;
        yield chunk as Buffer;
      }
      if (!this.#request.complete) throw new Error('the body ended early');
    } finally {
      socket.setTimeout(0);
      socket.removeListener('timeout', cut);
    }
  }

  /** Answers a problem. A body that is still coming is dropped first, unless its sender waits for leave to send it. */
  async #refuse(code: ProblemCode, result: Result = 'refused'): Promise<void> {
    const { status, body } = problemAnswer(code);
    const response = this.#response;
    if (!this.#request.complete && hasBody(this.#request)) {
      const isWaiting = isExpecting(this.#request) && !this.#isContinued;
      const isAll = !isWaiting && (await drain(this.#body()));
      if (!isAll) response.setHeader('connection', 'close');
    }
    response.writeHead(status, { 'content-type': problemContentType, 'content-length': Buffer.byteLength(body) });
    response.end(this.#request.method === 'HEAD' ? undefined : body);
    this.#count(result);
  }

  #count(result: Result): void {
    const method = this.#request.method as Method;
    const known = method === 'GET' || method === 'HEAD' || method === 'PUT' || method === 'DELETE' ? method : 'other';
    this.#service.tally.count(known, result, (performance.now() - this.#startedMs) / 1000);
  }
}

/** RFC 9112, 3.2.2: a server takes the absolute form too. */
function originForm(target: string): string {
  const match = /^http:\/\/[^/?#]*(?=\/)/i.exec(target);
  return match === null ? target : target.slice(match[0].length);
}

function keep(value: string | string[] | undefined, maxBytes: number): string {
  return typeof value === 'string' && value.length <= maxBytes && /^[\x20-\x7e]*$/.test(value) ? value : '';
}

/** Without Content-Length and Transfer-Encoding a request has no body (RFC 9112, 6.3). */
function lengthWithout(headers: IncomingMessage['headers']): number | undefined {
  return headers['transfer-encoding'] === undefined ? 0 : undefined;
}

function hasBody(request: IncomingMessage): boolean {
  return request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0;
}

function isExpecting(request: IncomingMessage): boolean {
  return /^100-continue$/i.test(request.headers.expect ?? '');
}

function refuseConnection(service: ObjectService, error: NodeJS.ErrnoException, socket: Socket): void {
  service.tally.badRequests += 1;
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const code =
    error.code === 'HPE_HEADER_OVERFLOW' ? 'head-too-large' : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'request-timeout' : 'bad-request';
  const { status, body } = problemAnswer(code);
  const head = `HTTP/1.1 ${status} ${code}\r\nx-kura-shard: ${service.name}\r\ncontent-type: ${problemContentType}\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n`;
  socket.end(head + body, () => socket.destroy());
}

/** Node joins the lines of a field with a comma, which no credential that comes twice survives. */
function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? undefined : value;
}
