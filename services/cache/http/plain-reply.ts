/** Answers one request on a plain connection: heads and bodies go straight to the socket. */
import type { Socket } from 'node:net';
import type { BodySink, Fields, Reply } from './handler/reply.ts';
import type { PlainRequest } from './plain-head.ts';
import type { ProblemCode } from './problems.ts';
import { drain } from './receive-put.ts';
import type { RequestBody } from './request-body.ts';
import type { ResponseHeads } from './response-heads.ts';

interface PlainReplyOptions {
  readonly socket: Socket;
  readonly heads: ResponseHeads;
  readonly request: PlainRequest;
  readonly body: RequestBody;
  /** The shard closes its connections. */
  readonly isClosing: () => boolean;
  /** A body is being sent, which has deadlines of its own. */
  readonly onStream: () => void;
}

export class PlainReply implements Reply {
  /** A request that waits for permission is not plain. */
  readonly isAwaited = false;
  /** The response that was sent closes the connection. */
  isLast = false;
  readonly #options: PlainReplyOptions;
  #mustClose = false;

  constructor(options: PlainReplyOptions) {
    this.#options = options;
  }

  get body(): RequestBody {
    return this.#options.body;
  }

  /** The connection closes after the response. */
  close(): void {
    this.#mustClose = true;
  }

  send(status: number, fields: Fields): void {
    const { socket, heads } = this.#options;
    socket.write(heads.make(status, fields, this.#decideLast()));
  }

  stream(status: number, fields: Fields): BodySink {
    const { socket, heads, onStream } = this.#options;
    const head = Buffer.from(heads.make(status, fields, this.#decideLast()), 'latin1');
    return { to: socket, head, begin: onStream, end: () => {} };
  }

  async refuse(code: ProblemCode, fields: Fields = []): Promise<void> {
    const { socket, heads, request, body } = this.#options;
    if (!(await drain(body))) this.close();
    socket.write(heads.problem(code, { isLast: this.#decideLast(), isHead: request.method === 'HEAD', fields }));
  }

  #decideLast(): boolean {
    const { request, isClosing } = this.#options;
    this.isLast = this.#mustClose || request.isLast || isClosing();
    return this.isLast;
  }
}
