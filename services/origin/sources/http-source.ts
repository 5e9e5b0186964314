/** An origin that is an HTTP server. It follows redirects to allowed hosts only. */
import { Agent, type Dispatcher } from 'undici';
import type { HttpSource as HttpOrigin } from '../../shared/origins.ts';
import { checkHost, guardedLookup } from './address-guard.ts';
import { type ObjectSource, type Opened, type OpenRequest, type ReachOptions, strongTag } from './object-source.ts';
import type { OriginCredentials } from './origin-credentials.ts';
import type { OriginPath } from './origin-path.ts';

const maxRedirects = 5;
const maxConnectMs = 5_000;
const redirectStatuses: readonly number[] = [301, 302, 303, 307, 308];

/** Where a request goes. The path is sent as it is: a URL object would change its spelling. */
interface Place {
  readonly url: URL;
  readonly path: string;
}

export class HttpSource implements ObjectSource {
  readonly #base: URL;
  readonly #allowedHosts: readonly string[];
  readonly #credentials: OriginCredentials;
  readonly #agent: Agent;

  constructor({ url }: HttpOrigin, { allowedHosts, maxConcurrency, timeoutMs }: ReachOptions, credentials: OriginCredentials) {
    this.#base = new URL(url);
    this.#credentials = credentials;
    this.#allowedHosts = allowedHosts;
    this.#agent = new Agent({
      connect: { lookup: guardedLookup(allowedHosts), timeout: Math.min(maxConnectMs, timeoutMs) },
      connections: maxConcurrency,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
    });
  }

  async open({ encoded }: OriginPath, request: OpenRequest): Promise<Opened> {
    let place: Place = { url: this.#base, path: this.#base.pathname + encoded };
    try {
      for (let redirects = 0; redirects <= maxRedirects; redirects++) {
        const response = await this.#send(place, request);
        if (!redirectStatuses.includes(response.statusCode)) return openedOf(response, request);
        discard(response.body);
        place = this.#redirect(place, response.headers.location);
      }
      return { kind: 'failed', reason: `the origin redirects more than ${maxRedirects} times` };
    } catch (error) {
      return { kind: 'failed', reason: reasonOf(error as Error) };
    }
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #send({ url, path }: Place, { method, range, signal }: OpenRequest): Promise<Dispatcher.ResponseData> {
    checkHost(url.hostname, this.#allowedHosts);
    // Another host must not learn the credentials of this one.
    const authorization = url.host === this.#base.host ? await this.#credentials.authorization() : undefined;
    const headers = {
      'user-agent': 'kura',
      // The bytes of the object are wanted, not those of a transfer.
      'accept-encoding': 'identity',
      ...(authorization === undefined ? {} : { authorization }),
      ...(range === undefined ? {} : { range: `bytes=${range.first}-${range.last ?? ''}` }),
    };
    return await this.#agent.request({ origin: url.origin, path, method, headers, signal });
  }

  #redirect(from: Place, location: unknown): Place {
    const url = typeof location === 'string' ? URL.parse(location, from.url.origin + from.path) : null;
    if (url === null) throw new Error('the origin redirects without a valid Location');
    if (url.protocol !== 'https:' && url.protocol !== from.url.protocol)
      throw new Error(`the origin redirects from ${from.url.protocol}// to ${url.protocol}//`);
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    if (url.host !== this.#base.host && !this.#allowedHosts.includes(host))
      throw new Error(`the origin redirects to ${host}, which allowedHosts does not list`);
    return { url, path: url.pathname + url.search };
  }
}

function openedOf({ statusCode, headers, body }: Dispatcher.ResponseData, { method, range }: OpenRequest): Opened {
  const refusal = refusalOf(statusCode, headers);
  if (refusal !== undefined) {
    discard(body);
    return refusal;
  }
  const bodyBytes = wholeNumber(headers['content-length']);
  const part = statusCode === 206 ? partOf(headers['content-range']) : undefined;
  const isWrongPart =
    statusCode === 206 &&
    (range === undefined || part === undefined || part.first !== range.first || (range.last !== undefined && part.last > range.last));
  if (isWrongPart) {
    discard(body);
    return { kind: 'failed', reason: `the origin responds with the range "${String(headers['content-range'] ?? '')}"` };
  }
  const isHead = method === 'HEAD';
  if (isHead) discard(body);
  return {
    kind: 'object',
    bytes: part === undefined ? bodyBytes : part.bytes,
    first: part?.first,
    bodyBytes: part === undefined ? bodyBytes : part.last - part.first + 1,
    version: strongTag(headers.etag),
    modified: dateOf(headers['last-modified']),
    body: isHead ? undefined : body,
  };
}

function refusalOf(status: number, headers: Dispatcher.ResponseData['headers']): Opened | undefined {
  if (status === 404 || status === 410) return { kind: 'miss' };
  if (status === 416) return { kind: 'range-not-satisfiable' };
  if (status === 401 || status === 403 || status === 407) return { kind: 'refused', reason: `the origin responds with ${status}` };
  if (status !== 200 && status !== 206) return { kind: 'failed', reason: `the origin responds with ${status}` };
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') return { kind: 'failed', reason: `the origin responds with content encoding ${String(encoding)}` };
  return undefined;
}

/** Reads a short body, so that the connection stays usable, and closes the connection of a longer one. */
function discard(body: Dispatcher.ResponseData['body']): void {
  body.dump({ limit: 64 * 1024 }).catch(() => undefined);
}

/** Of `bytes 0-9/100`. */
function partOf(header: unknown): { first: number; last: number; bytes: number | undefined } | undefined {
  const [, first, last, bytes] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(String(header)) ?? [];
  if (first === undefined || Number(last) < Number(first)) return undefined;
  return { first: Number(first), last: Number(last), bytes: wholeNumber(bytes) };
}

function dateOf(text: unknown): Date | undefined {
  const date = new Date(String(text));
  return Number.isNaN(date.getTime()) ? undefined : date;
}

function wholeNumber(text: unknown): number | undefined {
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function reasonOf(error: Error & { code?: string }): string {
  return `the origin cannot be read: ${error.message || error.code || error.name}`;
}
