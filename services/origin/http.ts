/** The HTTP edge for shards: `/fetch/<origin>/<key>` and `/list/<origin>?prefix=&after=`, for requests with signed terms. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { ListenAddress } from '../shared/environment.ts';
import { type Listening, listen } from '../shared/listen.ts';
import type { SignedCaller } from '../shared/signed-terms.ts';
import type { Admission } from './admission.ts';
import type { Priority } from './concurrency-limit.ts';
import { withDrain } from './drain.ts';
import { type FetchOptions, fetchObject } from './fetch.ts';
import { type ListedKey, listObjects } from './list.ts';
import { type OpenOrigin, type OpenOrigins, pathAt } from './open-origins.ts';
import { sendProblem } from './problems.ts';

interface OriginServerOptions extends FetchOptions {
  readonly address: ListenAddress;
  /** How long requests may take when the service ends. */
  readonly drainMs: number;
  readonly origins: OpenOrigins;
  readonly admission: Admission;
  /** Whether a document is in force. */
  readonly isReady: () => boolean;
}

interface Target {
  readonly kind: 'fetch' | 'list';
  readonly origin: string;
  /** After the name of the origin: a key, or the query of a list. */
  readonly rest: string;
}

/** A shard sends a short head. */
const maxHeadBytes = 16 * 1024;
const maxHeadMs = 5_000;
/** Each shard opens few connections. */
const maxConnections = 4_096;

export async function startOriginServer(options: OriginServerOptions): Promise<Listening> {
  const server = createServer({ maxHeaderSize: maxHeadBytes, headersTimeout: maxHeadMs }, (request, response) => {
    handle(request, response, options).catch((error: unknown) => {
      options.log.error({ err: error }, 'unexpected fault');
      if (response.headersSent) response.destroy();
      else sendProblem(response, 'origin-failed');
    });
  });
  // The time of a request is bounded by the origin's timeout and by its reader.
  server.requestTimeout = 0;
  server.maxConnections = maxConnections;
  return withDrain(server, await listen(server, options.address), { maxMs: options.drainMs });
}

async function handle(request: IncomingMessage, response: ServerResponse, options: OriginServerOptions): Promise<void> {
  const target = parseTarget(request.url ?? '');
  if (target === undefined) return sendProblem(response, 'no-such-path');
  if (request.method !== 'GET' && request.method !== 'HEAD') return sendProblem(response, 'method-not-allowed', { allow: 'GET, HEAD' });
  const admitted = options.admission.admit(request.headers);
  if (admitted === undefined) return sendProblem(response, 'bad-caller');
  if (admitted.fill?.origin !== target.origin) return sendProblem(response, 'not-your-origin');
  const origin = options.origins.get(target.origin);
  if (origin === undefined) return sendProblem(response, options.isReady() ? 'no-such-origin' : 'origins-unavailable');
  const left = new AbortController();
  response.on('close', () => {
    // An abort of a finished request would build an error for nobody.
    if (!response.writableFinished) left.abort();
  });
  // A shard that stalls must not keep its turn. A slow origin ends before.
  response.setTimeout(2 * origin.origin.timeoutMs + maxHeadMs, () => response.destroy());
  if (target.kind === 'list') return await list(target.rest, { origin, response, signal: left.signal }, options);
  const priority = admitted.fill.isPrefetch ? 'prefetch' : 'demand';
  await fetchTo(target.rest, { request, response, origin, caller: admitted.caller, priority, signal: left.signal }, options);
}

interface FetchCall {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly origin: OpenOrigin;
  readonly caller: SignedCaller;
  readonly priority: Priority;
  readonly signal: AbortSignal;
}

async function fetchTo(
  rest: string,
  { request, response, origin, caller, priority, signal }: FetchCall,
  options: FetchOptions,
): Promise<void> {
  const path = pathAt(origin, rest);
  if (path === undefined || path.encoded === '') return sendProblem(response, 'bad-path');
  const range = parseRange(request.headers.range);
  if (range === 'bad-range') return sendProblem(response, range);
  const problem = await fetchObject(
    {
      origin,
      path,
      caller,
      method: request.method === 'HEAD' ? 'HEAD' : 'GET',
      range,
      version: request.headers['if-match'],
      priority,
      signal,
    },
    {
      writeHead: ({ bytes, bodyBytes, first, version, modified }) => {
        const isPart = first !== undefined && bodyBytes !== undefined;
        response.writeHead(isPart ? 206 : 200, {
          'content-type': 'application/octet-stream',
          ...(bodyBytes === undefined ? { 'x-kura-max-object-bytes': origin.origin.maxObjectBytes } : { 'content-length': bodyBytes }),
          ...(isPart ? { 'content-range': `bytes ${first}-${first + bodyBytes - 1}/${bytes ?? '*'}` } : {}),
          ...(version === undefined ? {} : { etag: version }),
          ...(modified === undefined ? {} : { 'last-modified': modified.toUTCString() }),
        });
      },
      response,
    },
    options,
  );
  if (problem !== undefined) sendProblem(response, problem);
}

async function list(
  query: string,
  { origin, response, signal }: { origin: OpenOrigin; response: ServerResponse; signal: AbortSignal },
  options: FetchOptions,
): Promise<void> {
  const values = new URLSearchParams(query);
  // The values are keys, which are percent-encoded themselves.
  const prefix = pathAt(origin, values.get('prefix') ?? origin.origin.prefix);
  const given = values.get('after');
  const after = given === null ? undefined : pathAt(origin, given);
  if (prefix === undefined || (given !== null && after === undefined)) return sendProblem(response, 'bad-path');
  const write = (line: object): boolean => {
    if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    return response.write(`${JSON.stringify(line)}\n`);
  };
  const onObject = async ({ key, bytes, modified }: ListedKey): Promise<void> => {
    if (!write({ key, size: bytes, modified: modified?.toISOString() })) await once(response, 'drain', { signal });
  };
  const listed = await listObjects({ origin, prefix, after, priority: 'demand', signal }, onObject, options);
  // A list without its last line is broken.
  if (listed.kind === 'page') {
    write({ end: true, next: listed.next });
    response.end();
  } else if (response.headersSent) response.destroy();
  else sendProblem(response, listed.code);
}

function parseTarget(url: string): Target | undefined {
  const [, fetched, rest] = /^\/fetch\/([^/?]+)\/(.*)$/.exec(url) ?? [];
  if (fetched !== undefined && rest !== undefined) return { kind: 'fetch', origin: fetched, rest };
  const [, listed, query = ''] = /^\/list\/([^/?]+)(?:\?(.*))?$/.exec(url) ?? [];
  return listed === undefined ? undefined : { kind: 'list', origin: listed, rest: query };
}

function parseRange(header: string | undefined): { first: number; last: number | undefined } | undefined | 'bad-range' {
  if (header === undefined) return undefined;
  const [, first, last] = /^bytes=(\d{1,15})-(\d{1,15})?$/.exec(header) ?? [];
  if (first === undefined) return 'bad-range';
  const range = { first: Number(first), last: last === undefined ? undefined : Number(last) };
  return range.last !== undefined && range.last < range.first ? 'bad-range' : range;
}
