/**
 * A connection with plain requests, which are read and answered without Node's HTTP server. At the first request in another form, the
 * connection is handed over to node-server.ts. With the same handler, Node's parser and server take about four times the CPU for a cached
 * GET of 4 KiB, and twice the CPU for 112 KiB (`npm run bench:shard`, case "parser"). That is the reason for this parser.
 */
import type { Socket } from 'node:net';
import type { Result } from '../counters.ts';
import { blockBytes } from '../disk/trailer.ts';
import { maxWriteBytes } from '../store/buffer-pool.ts';
import { admit } from './admission.ts';
import { isConditional, planRead } from './conditions.ts';
import { handleObject } from './handler/handler.ts';
import { type Fields, redirect, refuse } from './handler/reply.ts';
import type { KnownFields } from './known-fields.ts';
import { bodyRoute, type ObjectRequest } from './object-request.ts';
import { completeRequest, type PlainRequest, readPlainHead } from './plain-head.ts';
import { PlainReply } from './plain-reply.ts';
import { lingerMs } from './receive-put.ts';
import { BrokenBodyError, joinAlone, RequestBody } from './request-body.ts';
import type { ResponseHeads } from './response-heads.ts';
import type { ObjectService } from './service.ts';

interface PlainConnectionOptions {
  readonly service: ObjectService;
  readonly heads: ResponseHeads;
  readonly known: KnownFields;
  readonly keepAliveMs: number;
  readonly headTimeoutMs: number;
  /** Hands the connection over to Node's server, with the bytes that were read but not used. */
  readonly handOver: (socket: Socket, bytes: Buffer) => void;
}

/** Pipelined bytes that are kept while a request is in progress. More bytes pause the socket. */
const maxPipelinedBytes = 64 * 1024;
/** Response bytes that may wait for the client before its next request is read. */
const maxUnreadBytes = 64 * 1024;

export class PlainConnection {
  readonly socket: Socket;
  /** When object-server.ts cuts the connection, on the clock of performance.now(). */
  deadline: number;
  /** The purpose of the deadline. In `request` the connection is idle, so it may be closed at any time. */
  waitsFor: 'request' | 'head' | 'body' | 'reader' | 'store' = 'request';
  readonly #options: PlainConnectionOptions;
  #bytes: Buffer | undefined;
  #body: RequestBody | undefined;
  #isBusy = false;
  /** The client has sent its last byte. */
  #isEnded = false;
  /** The last response had `connection: close`, so further requests must not be processed (RFC 9112, 9.6). */
  #isClosed = false;
  #startedMs = 0;
  /** The request in progress, when it has to be logged. */
  #logged: PlainRequest | undefined;

  constructor(socket: Socket, options: PlainConnectionOptions) {
    this.socket = socket;
    this.#options = options;
    this.deadline = performance.now() + options.keepAliveMs;
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('close', this.#onClose);
    socket.on('error', ignore);
  }

  /** Destroys the connection in any state. */
  cut(): void {
    if (this.waitsFor === 'body' || this.waitsFor === 'reader' || this.waitsFor === 'head') this.#options.service.counters.cutOff += 1;
    this.socket.destroy();
  }

  readonly #onData = (bytes: Buffer): void => {
    if (this.#isClosed) return;
    const body = this.#body;
    if (body !== undefined) {
      const renews = body.pace.renews(bytes.length);
      const rest = body.push(bytes);
      if (body.remainingBytes === 0) this.#endBody();
      else if (renews && !body.isHigh) this.#wait('body');
      if (rest !== undefined) this.#keep(rest);
      return;
    }
    this.#keep(bytes);
    if (!this.#isBusy) this.#process();
  };

  readonly #onEnd = (): void => {
    this.#isEnded = true;
    this.#body?.fail(new BrokenBodyError('the client ended the connection before the end of the body'));
    if (!this.#isBusy) this.#finish();
  };

  readonly #onClose = (): void => {
    this.#body?.fail(new BrokenBodyError('the client closed the connection'));
    this.#body?.discard();
    this.#bytes = undefined;
  };

  #keep(bytes: Buffer): void {
    this.#bytes = this.#bytes === undefined ? bytes : joinAlone([this.#bytes, bytes]);
    if (this.#isBusy && this.#bytes.length > maxPipelinedBytes) this.socket.pause();
  }

  /** Answers the received requests one after the other, until one has to wait. */
  #process(): void {
    while (!this.#isBusy && !this.#isClosed && this.#bytes !== undefined && !this.socket.destroyed) {
      if (this.socket.writableLength > maxUnreadBytes) {
        // The client does not read its responses.
        this.#isBusy = true;
        this.#wait('reader');
        this.socket.once('drain', () => this.#next(false));
        return;
      }
      const head = readPlainHead(this.#bytes, this.#options.known);
      switch (head.kind) {
        case 'incomplete':
          if (this.waitsFor !== 'head') this.#wait('head');
          return;
        case 'unusual':
          this.#handOver(this.#bytes);
          return;
        case 'request':
          this.#bytes = head.headBytes === this.#bytes.length ? undefined : this.#bytes.subarray(head.headBytes);
          this.#startedMs = performance.now();
          if (this.#options.service.requestLog !== undefined) this.#logged = head;
          this.#answer(head);
          break;
        default:
          head satisfies never;
      }
    }
  }

  #handOver(bytes: Buffer): void {
    const { socket } = this;
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('close', this.#onClose);
    socket.off('error', ignore);
    this.deadline = Number.POSITIVE_INFINITY;
    this.#options.service.counters.handedOver += 1;
    this.#options.handOver(socket, bytes);
  }

  #answer(head: PlainRequest): void {
    const { service } = this.#options;
    const terms = admit(service, head);
    if (typeof terms === 'string') {
      this.#run(head, (reply) => {
        reply.close();
        return refuse(reply, terms);
      });
      return;
    }
    const request = completeRequest(head, terms);
    if (!head.isLast && this.#answerAtOnce(request)) return;
    this.#run(head, (reply) => handleObject(service, request, reply));
  }

  /** The hot path: a warm object that one write can send, with head and body in one write, or a redirect. Returns false for all other requests. */
  #answerAtOnce(request: ObjectRequest): boolean {
    const { service, heads } = this.#options;
    const { store, reader, buffers, counters } = service;
    if (request.method !== 'GET' || isSelective(request) || service.isClosing()) return false;
    const object = store.openNow(request.key);
    if (object === undefined || object.tag !== (request.version ?? object.tag)) return false;
    const { fill, namespace = '' } = request;
    // The handler waits for the comparison with the origin that this call may start.
    if (fill !== undefined && service.fills !== undefined && service.fills.isFresh(object, namespace, fill) !== true) return false;
    const location = request.route === 'direct' ? service.direct?.locateRead(request, object, planRead(object, false, request)) : undefined;
    if (location !== undefined) {
      const send = (status: number, fields: Fields) => void this.socket.write(heads.make(status, fields, false));
      this.#count('GET', redirect({ send }, location));
      this.#wait('request');
      return true;
    }
    if (object.length === 0 || object.length > maxWriteBytes) return false;
    if (reader.warmEnd(object, { from: 0, to: object.length }) < object.length) return false;
    const head = heads.whole(object, request.route === 'through');
    const size = head.length + object.length;
    // A slow client holds the buffer. So a large one is only taken while most of the pool is unused.
    const buffer = object.length > blockBytes ? buffers.trySpare(size) : buffers.tryTake(size);
    if (buffer === undefined) return false;
    head.copy(buffer);
    store.use(object);
    try {
      reader.readNow(object, { from: 0, to: object.length }, buffer, head.length);
    } catch {
      buffers.give(buffer);
      this.socket.write(heads.problem('miss', { isLast: false, isHead: false, fields: [] }));
      this.#count('GET', 'miss');
      this.#wait('request');
      return true;
    }
    counters.sent[bodyRoute(request)] += object.length;
    let isWritten = false;
    this.socket.write(buffer.subarray(0, size), () => {
      isWritten = true;
      buffers.give(buffer);
      if (this.#isBusy && this.waitsFor === 'reader') this.#next(false);
    });
    this.#count('GET', 'hit');
    if (!isWritten && this.socket.writableLength > 0) {
      this.#isBusy = true;
      this.#wait('reader');
    } else this.#wait('request');
    return true;
  }

  #run(head: PlainRequest, work: (reply: PlainReply) => Promise<Result>): void {
    const { socket } = this;
    const { service, heads } = this.#options;
    this.#isBusy = true;
    const body = this.#openBody(head.length);
    const reply = new PlainReply({
      socket,
      heads,
      request: head,
      body,
      isClosing: service.isClosing,
      onStream: () => {
        this.deadline = Number.POSITIVE_INFINITY;
      },
    });
    const end = (result: Result): void => {
      body.discard();
      service.counters.received[bodyRoute(head)] += head.length - body.remainingBytes;
      this.#count(head.method, result);
    };
    work(reply).then(
      (result) => {
        end(result);
        this.#next(reply.isLast);
      },
      () => {
        end('failed');
        socket.destroy();
      },
    );
  }

  #openBody(lengthBytes: number): RequestBody {
    const { buffers } = this.#options.service;
    const body = new RequestBody({
      lengthBytes,
      onPressure: (isHigh) => this.#holdBack(isHigh),
      onHold: (bytes) => buffers.hold(bytes),
      isExhausted: () => buffers.isExhausted,
    });
    this.#wait('store');
    if (lengthBytes === 0) return body;
    const begun = this.#bytes;
    this.#bytes = undefined;
    this.#body = body;
    this.#wait('body');
    if (begun !== undefined) this.#onData(begun);
    return body;
  }

  /** While the shard pauses the client, no time counts against the client. */
  #holdBack(isHigh: boolean): void {
    if (isHigh) this.socket.pause();
    else this.socket.resume();
    this.#wait(isHigh || this.#body === undefined ? 'store' : 'body');
  }

  #endBody(): void {
    this.#body = undefined;
    this.#wait('store');
  }

  /** Called after a response: processes the next request, or ends the connection. */
  #next(isLast: boolean): void {
    this.#body = undefined;
    if (isLast) {
      this.#isClosed = true;
      this.#finish();
      return;
    }
    this.#isBusy = false;
    this.#wait('request');
    if (this.socket.isPaused()) this.socket.resume();
    this.#process();
    // The client sends no more requests, and all received requests are answered.
    if (this.#isEnded && !this.#isBusy) this.#finish();
  }

  /**
   * Ends this side, and drops the bytes that the client still sends for a while. A close with unread bytes would reset the connection, and
   * the client could lose the response.
   */
  #finish(): void {
    this.#wait('reader');
    this.deadline = performance.now() + Math.min(lingerMs, this.#options.service.readerTimeoutMs);
    this.#bytes = undefined;
    this.socket.end();
    if (this.socket.isPaused()) this.socket.resume();
  }

  #wait(what: PlainConnection['waitsFor']): void {
    this.waitsFor = what;
    const { keepAliveMs, headTimeoutMs, service } = this.#options;
    const now = performance.now();
    if (what === 'store') this.deadline = Number.POSITIVE_INFINITY;
    else if (what === 'request') this.deadline = now + keepAliveMs;
    else if (what === 'head') this.deadline = now + headTimeoutMs;
    else if (what === 'body') this.deadline = now + service.writerTimeoutMs;
    else this.deadline = now + service.readerTimeoutMs;
  }

  #count(method: PlainRequest['method'], result: Result): void {
    const { counters, requestLog } = this.#options.service;
    const seconds = (performance.now() - this.#startedMs) / 1000;
    counters.count(method, result, seconds);
    if (this.#logged === undefined) return;
    requestLog?.note(this.#logged, result, seconds);
    this.#logged = undefined;
  }
}

/** Whether the response may be other than the whole stored object. */
function isSelective(request: ObjectRequest): boolean {
  if (request.fill !== undefined && request.cacheControl !== undefined) return true;
  return request.range !== undefined || request.ifModifiedSince !== undefined || isConditional(request);
}

function ignore(): void {}
