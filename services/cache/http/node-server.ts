/** The edge that knows all of HTTP/1.1: Node's own server. Requests in plain form are answered by plain-connection.ts; what that does not know exactly comes here. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { problemContentType } from '../../shared/problem.ts';
import type { Method, Result } from '../counters.ts';
import { maxContentTypeBytes, maxNamespaceBytes } from '../disk/trailer.ts';
import { admit } from './admission.ts';
import { planRead } from './conditions.ts';
import type { Asked } from './direct.ts';
import { type ProblemCode, problemAnswer } from './problems.ts';
import { drain, receivePut } from './receive-put.ts';
import { sendBody } from './send-body.ts';
import type { ObjectService } from './service.ts';
import { readTarget } from './target.ts';

const allowedMethods = 'GET, HEAD, PUT, DELETE';
/** ResponseHeads beyond this are refused; a key has 1 KiB at most, and Envoy's own limit is 60 KiB. */
const maxHeadBytes = 16 * 1024;
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
  /** How bodies travel. */
  #way: 'proxied' | 'direct' = 'proxied';

  constructor(service: ObjectService, request: IncomingMessage, response: ServerResponse) {
    this.#service = service;
    this.#request = request;
    this.#response = response;
    response.setHeader('x-kura-shard', service.name);
    response.setHeader('connection', 'close');
  }

  async run(): Promise<void> {
    const path = originForm(this.#request.url ?? '');
    if (path === '/healthz') return this.#health();
    const target = readTarget(path);
    if (target.kind === 'ticket') this.#way = 'direct';
    const asked = admit(this.#service, this.#request, target);
    if (typeof asked === 'string') return this.#refuse(asked);
    const { expect } = this.#request.headers;
    if (expect !== undefined && !isExpecting(this.#request)) return this.#refuse('expectation-failed');
    switch (asked.method) {
      case 'GET':
      case 'HEAD':
        return this.#read(asked);
      case 'PUT':
        return this.#put(asked);
      case 'DELETE':
        return this.#delete(asked);
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

  async #read(asked: Asked): Promise<void> {
    const { store, direct } = this.#service;
    this.#request.resume();
    const object = await store.open(asked.key, asked.version);
    if (object === undefined) return this.#refuse('miss', 'miss');
    try {
      const isHead = asked.method === 'HEAD';
      const { range, 'if-range': ifRange, 'if-none-match': ifNoneMatch } = this.#request.headers;
      const plan = planRead(object, isHead, { range, ifRange: ifRange as string | undefined, ifNoneMatch });
      const location = direct?.locateRead(asked, object, plan);
      if (location !== undefined) return this.#redirect(location);
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
      else if (!(await this.#sendBody(object, plan, status, isWarm))) return this.#refuse('miss', 'miss');
      this.#count(plan.kind === 'part' ? 'partial' : 'hit');
    } finally {
      object.release();
    }
  }

  /** False when nothing was sent yet and nothing can be read. */
  async #sendBody(
    object: Parameters<typeof sendBody>[0]['object'],
    plan: { start: number; end: number },
    status: number,
    isWarm: boolean,
  ): Promise<boolean> {
    const { reader, buffers, readerTimeoutMs: timeoutMs, counters } = this.#service;
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
      counters.sent[this.#way] += plan.end - plan.start;
      this.#response.end();
      return true;
    } catch (error) {
      // In mid-body only a broken transfer says that it is not whole.
      if (isBegun) throw error;
      for (const name of ['etag', 'accept-ranges', 'content-length', 'content-range']) this.#response.removeHeader(name);
      return false;
    }
  }

  async #put(asked: Asked): Promise<void> {
    const { store, onFault, direct } = this.#service;
    const { headers } = this.#request;
    const put = {
      key: asked.key,
      length: headers['content-length'] === undefined ? lengthWithout(headers) : Number(headers['content-length']),
      contentType: keep(headers['content-type'], maxContentTypeBytes),
      namespace: keep(asked.namespace, maxNamespaceBytes),
      maxObjectBytes: asked.maxObjectBytes ?? Number.POSITIVE_INFINITY,
      maxShare: asked.maxShare,
    };
    if (put.length !== undefined && put.length > put.maxObjectBytes) return this.#refuse('too-large');
    const location = isExpecting(this.#request) ? direct?.locateUpload(asked, put.length) : undefined;
    if (location !== undefined) return this.#redirect(location);
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

  async #delete(asked: Asked): Promise<void> {
    this.#request.resume();
    let isGone: boolean;
    try {
      isGone = await this.#service.store.remove(asked.key);
    } catch (error) {
      this.#service.onFault(error, 'write');
      return this.#refuse('disk-fault', 'failed');
    }
    if (!isGone) return this.#refuse('miss', 'miss');
    this.#response.writeHead(204).end();
    this.#count('deleted');
  }

  #redirect(location: string): void {
    this.#response.writeHead(307, { location, 'cache-control': 'no-store', 'content-length': 0 }).end();
    this.#count('redirected');
  }

  /** The request's body; stalls and broken transfers throw. */
  async *#body(): AsyncGenerator<Buffer> {
    const { socket } = this.#request;
    const { writerTimeoutMs, counters } = this.#service;
    const cut = () => {
      counters.cutOff += 1;
      socket.destroy();
    };
    socket.setTimeout(writerTimeoutMs, cut);
    // Only now, with the upload admitted: a refused one costs its sender nothing.
    if (isExpecting(this.#request) && !this.#isContinued) this.#response.writeContinue();
    this.#isContinued = true;
    try {
      // Leaving the loop early must not destroy the connection: the rest may still be dropped and the refusal sent.
      for await (const chunk of this.#request.iterator({ destroyOnReturn: false })) {
        counters.received[this.#way] += (chunk as Buffer).length;
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
    this.#service.counters.count(known, result, (performance.now() - this.#startedMs) / 1000);
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
  service.counters.badRequests += 1;
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
