/** The response heads of plain connections. */
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
  412: 'Precondition Failed',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  416: 'Range Not Satisfiable',
  417: 'Expectation Failed',
  431: 'Request Header Fields Too Large',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  507: 'Insufficient Storage',
};

/** Offset of the 29 characters of the date in the head of a 200. */
const dateOffset = 'HTTP/1.1 200 OK\r\ndate: '.length;

/** The caller sets the date at least once a second (RFC 9110, 6.6.1). */
export class ResponseHeads {
  readonly #name: string;
  /** The head of a whole 200 response for each open object; only the date changes. Under `/through/` it has one field more. */
  readonly #whole = new WeakMap<OpenObject, Buffer>();
  readonly #through = new WeakMap<OpenObject, Buffer>();
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

  /** The head of a whole 200 response that keeps the connection open, with the current date. The next call overwrites its bytes. */
  whole(object: OpenObject, isThrough: boolean): Buffer {
    const heads = isThrough ? this.#through : this.#whole;
    let head = heads.get(object);
    if (head === undefined) {
      const fields = [...(isThrough ? ['x-kura-cache', 'hit'] : []), ...objectFields(object, object.length)];
      head = Buffer.from(this.make(200, fields, false), 'latin1');
      heads.set(object, head);
    }
    this.#dateBytes.copy(head, dateOffset);
    return head;
  }

  problem(code: ProblemCode, options: { isLast: boolean; isHead: boolean; fields: Fields; detail?: string | undefined }): string {
    const { status, fields, body } = problemResponse(code, options.detail);
    return this.make(status, [...options.fields, ...fields], options.isLast) + (options.isHead ? '' : body);
  }
}

export function lastModified({ modifiedSeconds }: OpenObject): string {
  return new Date(modifiedSeconds * 1000).toUTCString();
}

/** The fields of a response that has `bytes` of the object as its body. */
export function objectFields(object: OpenObject, bytes: number): Fields {
  const type = object.contentType === '' ? [] : ['content-type', object.contentType];
  const encoding = object.contentEncoding === '' ? [] : ['content-encoding', object.contentEncoding];
  return [
    'etag',
    object.tag,
    'last-modified',
    lastModified(object),
    'accept-ranges',
    'bytes',
    ...type,
    ...encoding,
    'content-length',
    String(bytes),
  ];
}
