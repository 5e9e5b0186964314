/** A shard, the real origin service, and a scripted HTTP server as the origin behind it. */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { ExecutionContext } from 'ava';
import { startOrigin, startScripted } from '../../../origin/support/origin.ts';
import { callerHeaders } from '../../../support/caller.ts';
import { type Answer, type Call, call } from '../../../support/http.ts';
import { startTestShard, type TestShard } from '../../support/shard.ts';

interface Through {
  readonly shard: TestShard;
  readonly originUrl: string;
  /** The requests that the origin has received. */
  readonly requests: readonly IncomingMessage[];
  /** A request for `/through/web/<name>` by a caller that may fill. */
  get(name: string, options?: Partial<Call>): Promise<Answer>;
  /** A request for the stored object, by a caller without a right to fill. */
  stored(name: string): Promise<Answer>;
}

export const fillHeaders = { ...callerHeaders({ fill: 'web' }) };

export async function startThrough(
  t: ExecutionContext,
  respond: RequestListener,
  options: Parameters<typeof startTestShard>[1] = {},
): Promise<Through> {
  const scripted = await startScripted(t, respond);
  const entry = `  - name: web
    prefix: web/
    http:
      url: http://${scripted.host}/
    allowedHosts:
      - 127.0.0.1
`;
  const origin = await startOrigin(t, entry);
  const environment = { KURA_CACHE_ORIGIN_URL: origin.url, ...options.environment };
  const shard = await startTestShard(t, { ...options, environment });
  return {
    shard,
    originUrl: origin.url,
    requests: scripted.requests,
    get: (name, given = {}) => call(shard.url, { path: `/through/web/${name}`, ...given, headers: { ...fillHeaders, ...given.headers } }),
    stored: (name) => call(shard.url, { path: `/objects/web/${name}`, headers: { ...callerHeaders() } }),
  };
}

/** Responds with the whole body or the requested range. */
export function serve(response: ServerResponse, request: IncomingMessage, body: Buffer, headers: Record<string, string> = {}): void {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const [start, end] = [Number(first ?? 0), last === undefined || last === '' ? body.length : Math.min(body.length, Number(last) + 1)];
  response.writeHead(first === undefined ? 200 : 206, {
    ...(first === undefined ? {} : { 'content-range': `bytes ${start}-${end - 1}/${body.length}` }),
    'content-length': end - start,
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body.subarray(start, end));
}
