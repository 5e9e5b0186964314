/** The response to one request on a plain connection. It writes heads and bodies directly to the socket. */
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
  /** Whether the shard closes its connections. */
  readonly isClosing: () => boolean;
  /** Called when a body starts, which has its own deadlines. */
  readonly onStream: () => void;
}

export class PlainReply implements Reply {
  /** A request with `Expect: 100-continue` is not plain. */
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

  /** Makes the connection close after the response. */
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

  async refuse(code: ProblemCode, fields: Fields = [], detail?: string): Promise<void> {
    const { socket, heads, request, body } = this.#options;
    if (!(await drain(body))) this.close();
    socket.write(heads.problem(code, { isLast: this.#decideLast(), isHead: request.method === 'HEAD', fields, detail }));
  }

  #decideLast(): boolean {
    const { request, isClosing } = this.#options;
    this.isLast = this.#mustClose || request.isLast || isClosing();
    return this.isLast;
  }
}
