/**
 * The edge for all of HTTP/1.1: Node's HTTP server. plain-connection.ts hands a connection over at the first request that is not plain.
 * The connection closes after the response.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Method, Result } from '../counters.ts';
import { admit } from './admission.ts';
import { answerDatasets } from './datasets.ts';
import { allowedMethods, handleObject } from './handler/handler.ts';
import { type BodySink, type Fields, type Reply, refuse } from './handler/reply.ts';
import { isExpecting, readNodeHead } from './node-head.ts';
import { bodyRoute, type Route } from './object-request.ts';
import { type ProblemCode, problemResponse } from './problems.ts';
import { drain, lingerMs } from './receive-put.ts';
import { Pace } from './request-body.ts';
import { ResponseHeads } from './response-heads.ts';
import type { ObjectService } from './service.ts';

/** A larger head gets 431. A key has at most 1 KiB, and Envoy's limit for heads is 60 KiB. */
const maxHeadBytes = 16 * 1024;
/**
 * Envoy compares it with `service_name_matcher` of its health check (envoy/bootstrap.yaml). An address that belongs to another Pod by now
 * gets no requests.
 */
const checkedCluster = 'kura-cache';
/** Limit against slow-loris attacks. */
export const headTimeoutMs = 10_000;

/**
 * Creates a server that does not listen: object-server.ts passes connections. Without `keepsAlive`, a connection closes after its first
 * response to anything but a health check.
 */
export function createNodeServer(
  service: ObjectService,
  { keepsAlive, keepAliveMs }: { keepsAlive: boolean; keepAliveMs: number },
): Server {
  const server = createServer({ maxHeaderSize: maxHeadBytes, connectionsCheckingInterval: headTimeoutMs / 5, requireHostHeader: false });
  // Node's limit of 300 s for a whole request would end a long PUT with 408. writerTimeout limits stalls.
  server.requestTimeout = 0;
  server.headersTimeout = headTimeoutMs;
  server.keepAliveTimeout = keepAliveMs;
  const handle = (message: IncomingMessage, response: ServerResponse) => {
    // Every Envoy checks every shard each second, and a new connection for each check costs both of them.
    const isKept = keepsAlive || message.url === '/healthz';
    if (!isKept || service.isClosing()) response.setHeader('connection', 'close');
    void respond(service, message, response);
  };
  server.on('request', handle);
  server.on('checkContinue', handle);
  server.on('checkExpectation', handle);
  // Without a listener Node closes the connection of a CONNECT without a response.
  server.on('connect', (_message, socket) => refuseSocket(service, socket as Socket, 'method-not-allowed', ['allow', allowedMethods]));
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => refuseConnection(service, error, socket as Socket));
  return server;
}

/** Answers one request and counts its result. Does not reject. */
async function respond(service: ObjectService, message: IncomingMessage, response: ServerResponse): Promise<void> {
  const startedMs = performance.now();
  response.setHeader('x-kura-shard', service.name);
  const result = await answer(service, message, response).catch((): Result => {
    message.socket.destroy();
    return 'failed';
  });
  if (result === undefined) return;
  const method = countedMethod(message.method);
  const seconds = (performance.now() - startedMs) / 1000;
  service.counters.count(method, result, seconds);
  const { 'x-request-id': requestId, traceparent } = message.headers;
  service.requestLog?.note({ method, requestId, traceparent }, result, seconds);
}

/** Resolves with undefined for a request that is not counted. */
async function answer(service: ObjectService, message: IncomingMessage, response: ServerResponse): Promise<Result | undefined> {
  const head = readNodeHead(message);
  if (head.kind === 'health') {
    sendHealth(service, message, response);
    return undefined;
  }
  if (head.kind === 'options') {
    response.writeHead(204, { allow: allowedMethods }).end();
    return undefined;
  }
  if (head.kind === 'datasets') {
    // A client that leaves is no failure of the shard.
    await answerDatasets(service, { message, target: head.target, response }).catch(() => void response.destroy());
    return undefined;
  }
  const reply = new NodeReply(service, message, response, head.applicant.route);
  // RFC 9112, 3.2: a request of HTTP/1.1 has exactly one Host.
  if (message.httpVersion === '1.1' && countHosts(message) !== 1) return await refuse(reply, 'bad-request');
  const terms = admit(service, head.applicant);
  if (typeof terms === 'string') return await refuse(reply, terms);
  if (head.kind === 'problem') return await refuse(reply, head.code);
  if (message.headers.expect !== undefined && !isExpecting(message)) return await refuse(reply, 'expectation-failed');
  if (message.method === 'GET' || message.method === 'HEAD' || message.method === 'DELETE') message.resume();
  return await handleObject(service, { ...head.applicant, ...terms }, reply);
}

function sendHealth(service: ObjectService, message: IncomingMessage, response: ServerResponse): void {
  const reason = service.notReady();
  message.resume();
  response
    .writeHead(reason === undefined ? 200 : 503, { 'content-type': 'text/plain', 'x-envoy-upstream-healthchecked-cluster': checkedCluster })
    .end(`${reason ?? 'ok'}\n`);
}

class NodeReply implements Reply {
  readonly #service: ObjectService;
  readonly #message: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #route: Route;
  #isContinued = false;

  constructor(service: ObjectService, message: IncomingMessage, response: ServerResponse, route: Route) {
    this.#service = service;
    this.#message = message;
    this.#response = response;
    this.#route = route;
  }

  get isAwaited(): boolean {
    return isExpecting(this.#message) && !this.#isContinued;
  }

  get body(): AsyncIterable<Buffer> {
    return this.#read();
  }

  send(status: number, fields: Fields): void {
    this.#response.writeHead(status, [...fields]).end();
  }

  stream(status: number, fields: Fields): BodySink {
    const response = this.#response;
    return { to: response, head: undefined, begin: () => void response.writeHead(status, [...fields]), end: () => void response.end() };
  }

  /** Drops the body first, unless the client waits for `100 Continue`. Beyond the limits, the rest is dropped after the response. */
  async refuse(code: ProblemCode, fields: Fields = [], detail?: string): Promise<void> {
    const problem = problemResponse(code, detail);
    if (!this.#message.complete && hasBody(this.#message) && !this.isAwaited && !(await drain(this.body))) this.#linger();
    this.#response.writeHead(problem.status, [...fields, ...problem.fields]);
    this.#response.end(this.#message.method === 'HEAD' ? undefined : problem.body);
  }

  /** Node destroys the connection after the response. With unread bytes, the client would get a reset instead of the response. */
  #linger(): void {
    const { socket } = this.#message;
    socket.destroySoon = () => {
      socket.end();
      this.#message.resume();
      const timer = setTimeout(() => socket.destroy(), lingerMs);
      socket.once('close', () => clearTimeout(timer));
    };
  }

  async *#read(): AsyncGenerator<Buffer> {
    const { socket } = this.#message;
    const { writerTimeoutMs, counters } = this.#service;
    const cut = () => {
      counters.cutOff += 1;
      socket.destroy();
    };
    const pace = new Pace();
    let leftMs = writerTimeoutMs;
    // `100 Continue` is sent at the first read, so the client of a rejected upload sends no body.
    if (this.isAwaited) this.#response.writeContinue();
    this.#isContinued = true;
    // An early end of the loop must not destroy the connection: `refuse` still drops the rest and sends the problem.
    const chunks = this.#message.iterator({ destroyOnReturn: false });
    try {
      for (;;) {
        const startedMs = performance.now();
        // Only time in which the shard waits for bytes counts against the client.
        const timer = setTimeout(cut, leftMs);
        const { done, value } = await chunks.next().finally(() => clearTimeout(timer));
        if (done === true) break;
        const chunk = value as Buffer;
        leftMs = pace.renews(chunk.length) ? writerTimeoutMs : leftMs - (performance.now() - startedMs);
        counters.received[bodyRoute({ route: this.#route })] += chunk.length;
        yield chunk;
      }
    } finally {
      await chunks.return?.();
    }
    if (!this.#message.complete) throw new Error('the body ended early');
  }
}

function countHosts({ rawHeaders }: IncomingMessage): number {
  return rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host').length;
}

function countedMethod(method: string | undefined): Method {
  return method === 'GET' || method === 'HEAD' || method === 'PUT' || method === 'DELETE' ? method : 'other';
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

function refuseConnection(service: ObjectService, error: NodeJS.ErrnoException, socket: Socket): void {
  service.counters.badRequests += 1;
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const code =
    error.code === 'HPE_HEADER_OVERFLOW' ? 'head-too-large' : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'request-timeout' : 'bad-request';
  refuseSocket(service, socket, code, []);
}

/** For a connection that has no response object. */
function refuseSocket(service: ObjectService, socket: Socket, code: ProblemCode, fields: Fields): void {
  const heads = new ResponseHeads(service.name);
  heads.setDate(new Date());
  socket.end(heads.problem(code, { isLast: true, isHead: false, fields }), () => socket.destroy());
}
