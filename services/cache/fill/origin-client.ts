/** Requests objects from the origin service, in the name of the caller that wants them. */
import type { Readable } from 'node:stream';
import { Agent, type Dispatcher } from 'undici';
import type { Key } from '../../shared/key.ts';
import { LineLimit } from '../../shared/line-limit.ts';
import type { Logger } from '../../shared/log.ts';

/** Why there is no object. `changed`: it has another version than the requested one. `bad-path`: the key names no object of the origin. */
export type OriginFault = 'miss' | 'range' | 'bad-path' | 'refused' | 'failed' | 'too-large' | 'busy' | 'changed';

export interface OriginObject {
  readonly kind: 'object';
  /** Bytes of the whole object; undefined if the origin does not announce it. */
  readonly length: number | undefined;
  /** The limit for a body without a length. */
  readonly maxBytes: number;
  /** First byte of the body. Undefined: the body is the whole object, also when a range was requested. */
  readonly first: number | undefined;
  readonly contentType: string;
  /** A strong entity tag. */
  readonly tag: string | undefined;
  /** The tag, otherwise the date of the last change, otherwise an empty string. */
  readonly version: string;
  /** Empty for HEAD. The caller must read or destroy it. */
  readonly body: Readable;
}

interface OriginRequest {
  readonly method: 'GET' | 'HEAD';
  readonly key: Key;
  readonly fill: { readonly origin: string; readonly callerHeader: string; readonly termsHeader: string };
  /** Both ends are included. */
  readonly range?: { readonly first: number; readonly last: number } | undefined;
  /** The only accepted version. */
  readonly tag?: string | undefined;
  readonly signal?: AbortSignal;
  /** For the head of the response. */
  readonly limitMs?: number;
}

interface OriginClientOptions {
  readonly url: string;
  readonly maxConnections: number;
  readonly log: Logger;
}

const maxConnectMs = 2_000;
/** The origin service waits up to the timeout of the origin for a turn, and then up to the same time for the head. */
const maxHeadMs = 27_000;
/** The origin service ends a body earlier, after the timeout of the origin, which is at most 60 s. */
const maxPauseMs = 65_000;
const maxProblemBytes = 16 * 1024;

export class OriginClient {
  readonly #options: OriginClientOptions;
  readonly #agent: Agent;
  readonly #lines = new LineLimit(1);

  constructor(options: OriginClientOptions) {
    this.#options = options;
    this.#agent = new Agent({
      allowH2: false,
      connections: options.maxConnections,
      connect: { timeout: maxConnectMs },
      bodyTimeout: maxPauseMs,
    });
  }

  /** Does not reject. */
  async open({
    method,
    key,
    fill,
    range,
    tag,
    signal,
    limitMs = maxHeadMs,
  }: OriginRequest): Promise<OriginObject | { readonly kind: OriginFault }> {
    try {
      const response = await this.#agent.request({
        origin: this.#options.url,
        path: `/fetch/${fill.origin}/${key}`,
        method,
        headers: {
          'x-kura-caller': fill.callerHeader,
          'x-kura-terms': fill.termsHeader,
          ...(range === undefined ? {} : { range: `bytes=${range.first}-${range.last}` }),
          ...(tag === undefined ? {} : { 'if-match': tag }),
        },
        headersTimeout: Math.max(1, limitMs),
        ...(signal === undefined ? {} : { signal }),
      });
      const { statusCode } = response;
      // Without a listener, the end of an unread body would end the process. Readers get the error too.
      response.body.on('error', () => {});
      if (statusCode >= 300) return { kind: await this.#faultOf(response, fill.origin) };
      return objectOf(response);
    } catch (error) {
      if (signal?.aborted !== true) this.#warn(fill.origin, (error as Error).message);
      return { kind: 'failed' };
    }
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #faultOf({ statusCode, body, headers }: Dispatcher.ResponseData, origin: string): Promise<OriginFault> {
    // A response to HEAD has no body.
    const isShort = Number(headers['content-length'] ?? maxProblemBytes) < maxProblemBytes;
    const text = isShort ? await body.text() : '';
    if (!isShort) body.destroy();
    const code = codeOf(text) ?? (header(headers['x-kura-problem']) || String(statusCode));
    const fault = faults[code];
    if (fault === undefined) this.#warn(origin, `the origin service responds with ${code}`);
    return fault ?? 'failed';
  }

  /** The origin service logs the faults of origins. */
  #warn(origin: string, reason: string): void {
    if (this.#lines.count(Date.now()).isAdmitted) this.#options.log.warn({ origin, reason }, 'the origin service cannot be used');
  }
}

/** By problem code of services/origin, otherwise by status. */
const faults: Readonly<Record<string, OriginFault>> = {
  'origin-miss': 'miss',
  'bad-path': 'bad-path',
  'origin-changed': 'changed',
  'range-not-satisfiable': 'range',
  'origin-refused': 'refused',
  'origin-failed': 'failed',
  'origin-too-large': 'too-large',
  'origin-busy': 'busy',
  '400': 'bad-path',
  '404': 'miss',
  '412': 'changed',
  '416': 'range',
  '502': 'failed',
  '503': 'busy',
};

function codeOf(text: string): string | undefined {
  try {
    const { code } = JSON.parse(text) as { code?: unknown };
    return typeof code === 'string' ? code : undefined;
  } catch {
    return undefined;
  }
}

function objectOf({ statusCode, headers, body }: Dispatcher.ResponseData): OriginObject {
  const [, first, total] = /^bytes (\d{1,15})-\d{1,15}\/(\d{1,15})$/.exec(header(headers['content-range'])) ?? [];
  const isPart = statusCode === 206 && first !== undefined;
  const tag = /^"[\x21\x23-\x7e]*"$/.test(header(headers.etag)) ? header(headers.etag) : undefined;
  return {
    kind: 'object',
    length: wholeNumber(isPart ? total : header(headers['content-length'])),
    maxBytes: wholeNumber(header(headers['x-kura-max-object-bytes'])) ?? Number.POSITIVE_INFINITY,
    first: isPart ? Number(first) : undefined,
    contentType: header(headers['content-type']),
    tag,
    version: tag ?? header(headers['last-modified']),
    body,
  };
}

function header(value: string | string[] | undefined): string {
  return typeof value === 'string' ? value : '';
}

function wholeNumber(value: string | undefined): number | undefined {
  return value !== undefined && /^\d{1,15}$/.test(value) ? Number(value) : undefined;
}
