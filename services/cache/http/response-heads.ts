/** The heads of answers as bytes, for the connection that writes them itself. */
import { problemContentType } from '../../shared/problem.ts';
import type { OpenObject } from '../store/open-object.ts';
import { type ProblemCode, problemAnswer } from './problems.ts';

const reasons: Readonly<Record<number, string>> = {
  200: 'OK',
  201: 'Created',
  204: 'No Content',
  206: 'Partial Content',
  304: 'Not Modified',
  307: 'Temporary Redirect',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  416: 'Range Not Satisfiable',
  431: 'Request Header Fields Too Large',
  503: 'Service Unavailable',
  507: 'Insufficient Storage',
};

/** Where the date's 29 characters lie in a kept 200 head. */
const dateOffset = 'HTTP/1.1 200 OK\r\ndate: '.length;

/** Makes heads; the date is the caller's, renewed about every second (RFC 9110, 6.6.1 wants one). */
export class ResponseHeads {
  readonly #name: string;
  #date = new Date(0).toUTCString();
  #dateBytes = Buffer.from(this.#date);

  constructor(name: string) {
    this.#name = name;
  }

  setDate(now: Date): void {
    this.#date = now.toUTCString();
    this.#dateBytes = Buffer.from(this.#date);
  }

  make(status: number, fields: string, isLast: boolean): string {
    const connection = isLast ? 'connection: close\r\n' : '';
    return `HTTP/1.1 ${status} ${reasons[status] ?? 'Unknown'}\r\ndate: ${this.#date}\r\nx-kura-shard: ${this.#name}\r\n${fields}${connection}\r\n`;
  }

  redirect(location: string, isLast: boolean): string {
    return this.make(307, `location: ${location}\r\ncache-control: no-store\r\ncontent-length: 0\r\n`, isLast);
  }

  /** The fields of an object's own head. */
  objectFields(object: OpenObject, bytes: number): string {
    const contentType = object.contentType === '' ? '' : `content-type: ${object.contentType}\r\n`;
    return `etag: ${object.tag}\r\naccept-ranges: bytes\r\n${contentType}content-length: ${bytes}\r\n`;
  }

  /** Copies the head of a whole 200 answer into `buffer` and returns its length. It is made once for each open object; only the date changes. */
  copyWhole(object: OpenObject, buffer: Buffer): number {
    const head = this.wholeHead(object);
    head.copy(buffer);
    this.#dateBytes.copy(buffer, dateOffset);
    return head.length;
  }

  wholeHead(object: OpenObject): Buffer {
    object.head ??= Buffer.from(this.make(200, this.objectFields(object, object.length), false), 'latin1');
    return object.head;
  }

  problem(code: ProblemCode, options: { isLast: boolean; isHead: boolean; fields?: string }): string {
    const { status, body } = problemAnswer(code);
    const fields = `${options.fields ?? ''}content-type: ${problemContentType}\r\ncontent-length: ${body.length}\r\n`;
    return this.make(status, fields, options.isLast) + (options.isHead ? '' : body);
  }
}
