/** The heads of responses as bytes, for the connection that writes them itself. */
import { problemContentType } from '../../shared/problem.ts';
import type { OpenObject } from '../store/open-object.ts';
import type { Fields } from './handler/reply.ts';
import { type ProblemCode, problemResponse } from './problems.ts';

const reasons: Readonly<Record<number, string>> = {
  200: 'OK',
  201: 'Created',
  204: 'No Content',
  206: 'Partial Content',
  304: 'Not Modified',
  307: 'Temporary Redirect',
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  416: 'Range Not Satisfiable',
  431: 'Request Header Fields Too Large',
  503: 'Service Unavailable',
  507: 'Insufficient Storage',
};

/** Where the date's 29 characters lie in the head of a 200. */
const dateOffset = 'HTTP/1.1 200 OK\r\ndate: '.length;

/** Makes heads. The caller renews the date about every second (RFC 9110, 6.6.1 asks for one). */
export class ResponseHeads {
  readonly #name: string;
  /** The head of a whole 200 response for each open object; only the date changes. */
  readonly #whole = new WeakMap<OpenObject, Buffer>();
  #date = new Date(0).toUTCString();
  #dateBytes = Buffer.from(this.#date);

  constructor(name: string) {
    this.#name = name;
  }

  setDate(now: Date): void {
    this.#date = now.toUTCString();
    this.#dateBytes = Buffer.from(this.#date);
  }

  make(status: number, fields: Fields, isLast: boolean): string {
    let lines = '';
    for (let at = 0; at < fields.length; at += 2) lines += `${fields[at]}: ${fields[at + 1]}\r\n`;
    const connection = isLast ? 'connection: close\r\n' : '';
    return `HTTP/1.1 ${status} ${reasons[status] ?? 'Unknown'}\r\ndate: ${this.#date}\r\nx-kura-shard: ${this.#name}\r\n${lines}${connection}\r\n`;
  }

  /** The head of a whole 200 response on a connection that stays open, with the present date. Use it before the next call: the bytes are shared. */
  whole(object: OpenObject): Buffer {
    let head = this.#whole.get(object);
    if (head === undefined) {
      head = Buffer.from(this.make(200, objectFields(object, object.length), false), 'latin1');
      this.#whole.set(object, head);
    }
    this.#dateBytes.copy(head, dateOffset);
    return head;
  }

  problem(code: ProblemCode, options: { isLast: boolean; isHead: boolean; fields: Fields }): string {
    const { status, body } = problemResponse(code);
    const fields = [...options.fields, 'content-type', problemContentType, 'content-length', String(body.length)];
    return this.make(status, fields, options.isLast) + (options.isHead ? '' : body);
  }
}

/** The fields of a response that has `bytes` of the object as its body. */
export function objectFields(object: OpenObject, bytes: number): Fields {
  const contentType = object.contentType === '' ? [] : ['content-type', object.contentType];
  return ['etag', object.tag, 'accept-ranges', 'bytes', ...contentType, 'content-length', String(bytes)];
}
