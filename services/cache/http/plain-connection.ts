/** One connection whose requests are in plain form: read, answered and kept open without Node's HTTP. The first unusual request takes the connection to node-server.ts. */
import type { Socket } from 'node:net';
import type { Result } from '../counters.ts';
import { blockBytes, maxContentTypeBytes, maxNamespaceBytes } from '../disk/trailer.ts';
import type { OpenObject } from '../store/open-object.ts';
import { planRead, type ReadPlan } from './conditions.ts';
import { type PlainRequest, readPlainHead } from './plain-head.ts';
import type { ProblemCode } from './problems.ts';
import { drain, receivePut } from './receive-put.ts';
import { BrokenBodyError, RequestBody } from './request-body.ts';
import type { ResponseHeads } from './response-heads.ts';
import { sendBody } from './send-body.ts';
import type { ObjectService } from './service.ts';

interface PlainConnectionOptions {
  readonly service: ObjectService;
  readonly heads: ResponseHeads;
  readonly keepAliveMs: number;
  readonly headTimeoutMs: number;
  /** Gives the connection, with the bytes that were read and not used, to Node's server. */
  readonly handOver: (socket: Socket, bytes: Buffer) => void;
}

/** Pipelined bytes that are kept while a request is being answered. */
const maxPipelinedBytes = 64 * 1024;

export class PlainConnection {
  readonly socket: Socket;
  /** When the connection is cut, on the clock of performance.now(); checked by object-server.ts. */
  deadline: number;
  /** What the deadline is for; an idle connection may be closed at any time. */
  waitsFor: 'request' | 'head' | 'body' | 'reader' | 'store' = 'request';
  readonly #options: PlainConnectionOptions;
  #bytes: Buffer | undefined;
  #body: RequestBody | undefined;
  #isBusy = false;
  #isEnded = false;
  #startedMs = 0;

  constructor(socket: Socket, options: PlainConnectionOptions) {
    this.socket = socket;
    this.#options = options;
    this.deadline = performance.now() + options.keepAliveMs;
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('close', this.#onClose);
    socket.on('error', ignore);
  }

  /** Cuts the connection, whatever it does. */
  cut(): void {
    if (this.waitsFor === 'body' || this.waitsFor === 'reader' || this.waitsFor === 'head') this.#options.service.counters.cutOff += 1;
    this.socket.destroy();
  }

  readonly #onData = (bytes: Buffer): void => {
    if (this.#body !== undefined) {
      const rest = this.#body.push(bytes);
      if (this.#body.remainingBytes === 0) this.#endBody();
      else this.#wait('body');
      if (rest !== undefined) this.#keep(rest);
      return;
    }
    this.#keep(bytes);
    if (!this.#isBusy) this.#process();
  };

  readonly #onEnd = (): void => {
    this.#isEnded = true;
    this.#body?.fail(new BrokenBodyError('the sender ended in mid-body'));
    if (!this.#isBusy) this.socket.end();
  };

  readonly #onClose = (): void => {
    this.#body?.fail(new BrokenBodyError('the sender went away'));
    this.#bytes = undefined;
  };

  #keep(bytes: Buffer): void {
    this.#bytes = this.#bytes === undefined ? bytes : Buffer.concat([this.#bytes, bytes]);
    if (this.#isBusy && this.#bytes.length > maxPipelinedBytes) this.socket.pause();
  }

  /** Answers what has come, one request after the other, until one has to wait. */
  #process(): void {
    while (!this.#isBusy && this.#bytes !== undefined && !this.socket.destroyed) {
      const head = readPlainHead(this.#bytes);
      switch (head.kind) {
        case 'incomplete':
          if (this.waitsFor !== 'head') this.#wait('head');
          return;
        case 'unusual':
          this.#handOver(this.#bytes);
          return;
        case 'request':
          // Refused there, body and all.
          if (!this.#isLetIn(head)) {
            this.#handOver(this.#bytes);
            return;
          }
          this.#bytes = head.headBytes === this.#bytes.length ? undefined : this.#bytes.subarray(head.headBytes);
          this.#startedMs = performance.now();
          this.#answer(head);
          break;
        default:
          head satisfies never;
      }
    }
  }

  /** By Envoy's credential, or by a ticket: then who asks, and for what, is what the ticket says. */
  #isLetIn(request: PlainRequest): boolean {
    const { credentials, direct, counters } = this.#options.service;
    if (request.ticket === undefined) return credentials.accepts(request.credential);
    const redeemed = direct?.redeem(request, request.ticket);
    if (redeemed?.kind !== 'used') return false;
    counters.tickets.used += 1;
    Object.assign(request, redeemed.asked);
    return true;
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

  #answer(request: PlainRequest): void {
    if (request.method === 'GET' && this.#answerAtOnce(request)) return;
    this.#isBusy = true;
    this.#wait('store');
    this.#run(request).then(
      (isLast) => this.#next(isLast || request.isLast || this.#isEnded),
      () => {
        this.#count(request.method, 'failed');
        this.socket.destroy();
      },
    );
  }

  /** The hot path: an open object that is to be had elsewhere, or a warm one of one block, head and body in one write. False when anything is otherwise. */
  #answerAtOnce(request: PlainRequest): boolean {
    const { service, heads } = this.#options;
    const { store, buffers } = service;
    if (request.isLast || request.range !== undefined || request.ifNoneMatch !== undefined || service.isClosing()) return false;
    const object = store.openNow(request.key);
    if (object === undefined || object.tag !== (request.version ?? object.tag)) return false;
    if (request.way === 'direct' && this.#redirect(request, object, planRead(object, false, request), false)) {
      this.#wait('request');
      return true;
    }
    if (object.length > blockBytes || object.length === 0 || !store.isWarm(object)) return false;
    const buffer = buffers.tryTake(heads.wholeHead(object).length + object.length);
    if (buffer === undefined) return false;
    store.use(object);
    const offset = heads.copyWhole(object, buffer);
    try {
      service.reader.readNow(object, { from: 0, to: object.length, isWarm: true }, buffer, offset);
    } catch {
      buffers.give(buffer);
      this.socket.write(heads.problem('miss', { isLast: false, isHead: false }));
      this.#count('GET', 'miss');
      return true;
    }
    service.counters.sent[bodyWay(request)] += object.length;
    let isWritten = false;
    this.socket.write(buffer.subarray(0, offset + object.length), () => {
      isWritten = true;
      buffers.give(buffer);
      if (this.#isBusy && this.waitsFor === 'reader') this.#next(this.#isEnded);
    });
    this.#count('GET', 'hit');
    if (!isWritten && this.socket.writableLength > 0) {
      this.#isBusy = true;
      this.#wait('reader');
    } else this.#wait('request');
    return true;
  }

  /** Resolves when the answer is written, with whether the connection must close after it. Rejects when it must be cut. */
  #run(request: PlainRequest): Promise<boolean> {
    switch (request.method) {
      case 'GET':
      case 'HEAD':
        return this.#read(request);
      case 'PUT':
        return this.#put(request);
      case 'DELETE':
        return this.#delete(request);
    }
  }

  async #read(request: PlainRequest): Promise<boolean> {
    const { service, heads } = this.#options;
    const isHead = request.method === 'HEAD';
    const isLast = request.isLast || service.isClosing();
    const object = await service.store.open(request.key, request.version);
    if (object === undefined) return this.#refuse(request, 'miss', 'miss');
    try {
      const plan = planRead(object, isHead, request);
      if (this.#redirect(request, object, plan, isLast)) return isLast;
      const isWarm = service.store.use(object);
      switch (plan.kind) {
        case 'not-modified':
          this.socket.write(heads.make(304, `etag: ${object.tag}\r\n`, isLast));
          this.#count(request.method, 'notModified');
          return isLast;
        case 'unsatisfiable':
          return this.#refuse(request, 'range-not-satisfiable', 'refused', `content-range: bytes */${object.length}\r\n`);
        case 'whole':
        case 'part':
          return await this.#send(request, object, plan, isWarm);
        default:
          return plan satisfies never;
      }
    } finally {
      object.release();
    }
  }

  /** False when the body is to be sent here. */
  #redirect(request: PlainRequest, object: OpenObject, plan: ReadPlan, isLast: boolean): boolean {
    const { service, heads } = this.#options;
    const location = service.direct?.locateRead(request, object, plan);
    if (location === undefined) return false;
    this.socket.write(heads.redirect(location, isLast));
    this.#count('GET', 'redirected');
    return true;
  }

  async #send(
    request: PlainRequest,
    object: OpenObject,
    plan: { kind: 'whole' | 'part'; start: number; end: number },
    isWarm: boolean,
  ): Promise<boolean> {
    const { service, heads } = this.#options;
    const { reader, buffers, readerTimeoutMs: timeoutMs, counters } = service;
    const isLast = request.isLast || service.isClosing();
    const { start, end } = plan;
    const isPart = plan.kind === 'part';
    const range = isPart ? `content-range: bytes ${start}-${end - 1}/${object.length}\r\n` : '';
    const head = heads.make(isPart ? 206 : 200, range + heads.objectFields(object, end - start), isLast);
    if (request.method === 'HEAD' || start === end) this.socket.write(head);
    else {
      let isBegun = false;
      const begin = () => {
        isBegun = true;
        // sendBody has a deadline of its own for each piece.
        this.deadline = Number.POSITIVE_INFINITY;
      };
      try {
        await sendBody(
          { object, start, end, isWarm, to: this.socket, head: Buffer.from(head, 'latin1'), reader, buffers, timeoutMs },
          begin,
        );
      } catch (error) {
        if (isBegun) throw error;
        return this.#refuse(request, 'miss', 'miss');
      }
      counters.sent[bodyWay(request)] += end - start;
    }
    this.#count(request.method, isPart ? 'partial' : 'hit');
    return isLast;
  }

  async #put(request: PlainRequest): Promise<boolean> {
    const { service, heads } = this.#options;
    const feed = new RequestBody(request.contentLength, (isHigh) => (isHigh ? this.socket.pause() : this.socket.resume()));
    const begun = this.#bytes;
    this.#bytes = undefined;
    this.#body = feed;
    if (feed.remainingBytes === 0) {
      this.#bytes = begun;
      this.#endBody();
    } else if (begun !== undefined) this.#onData(begun);
    else this.#wait('body');
    const put = {
      key: request.key,
      length: request.contentLength,
      contentType: keep(request.contentType, maxContentTypeBytes),
      namespace: keep(request.namespace, maxNamespaceBytes),
      maxObjectBytes: request.maxObjectBytes ?? Number.POSITIVE_INFINITY,
      maxShare: request.maxShare,
    };
    const outcome = await receivePut({ store: service.store, put, body: feed, onFault: service.onFault });
    service.counters.received[bodyWay(request)] += request.contentLength - feed.remainingBytes;
    const isLast = request.isLast || service.isClosing();
    switch (outcome.kind) {
      case 'stored':
        this.socket.write(heads.make(201, `etag: ${outcome.tag}\r\ncontent-length: 0\r\n`, isLast));
        this.#count('PUT', 'stored');
        return isLast;
      case 'not-kept':
        this.socket.write(heads.make(201, 'x-kura-stored: no\r\ncontent-length: 0\r\n', isLast));
        this.#count('PUT', 'notStored');
        return isLast;
      case 'refused': {
        const isAll = await drain(feed);
        return this.#refuse(request, outcome.code, 'refused', '', !isAll);
      }
      default:
        return outcome satisfies never;
    }
  }

  async #delete(request: PlainRequest): Promise<boolean> {
    const { service, heads } = this.#options;
    let isGone: boolean;
    try {
      isGone = await service.store.remove(request.key);
    } catch (error) {
      service.onFault(error, 'write');
      return this.#refuse(request, 'disk-fault', 'failed');
    }
    if (!isGone) return this.#refuse(request, 'miss', 'miss');
    const isLast = request.isLast || service.isClosing();
    this.socket.write(heads.make(204, '', isLast));
    this.#count('DELETE', 'deleted');
    return isLast;
  }

  #refuse(request: PlainRequest, code: ProblemCode, result: Result, fields = '', mustClose = false): boolean {
    const isLast = mustClose || request.isLast || this.#options.service.isClosing();
    this.socket.write(this.#options.heads.problem(code, { isLast, isHead: request.method === 'HEAD', fields }));
    this.#count(request.method, result);
    return isLast;
  }

  #endBody(): void {
    this.#body = undefined;
    this.#wait('store');
  }

  /** After an answer: the next request, or the end. */
  #next(isLast: boolean): void {
    this.#isBusy = false;
    this.#body = undefined;
    if (isLast) {
      this.#wait('reader');
      this.socket.end();
      this.socket.destroySoon();
      return;
    }
    this.#wait('request');
    if (this.socket.isPaused()) this.socket.resume();
    this.#process();
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
    this.#options.service.counters.count(method, result, (performance.now() - this.#startedMs) / 1000);
  }
}

function keep(value: string | undefined, maxBytes: number): string {
  return value !== undefined && value.length <= maxBytes ? value : '';
}

function bodyWay({ way }: PlainRequest): 'proxied' | 'direct' {
  return way === 'ticket' ? 'direct' : 'proxied';
}

function ignore(): void {}
