/** A shard, the real origin service, and a scripted HTTP server as the origin behind it. The tests of a file share the origin service. */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { startOrigin, startScripted } from '../../../origin/support/origin.ts';
import { callerHeaders } from '../../../support/caller.ts';
import { type Answer, type Call, call } from '../../../support/http.ts';
import { startTestShard, type TestShard } from '../../support/shard.ts';

interface Script {
  /** Of the keys of one test. */
  readonly prefix: string;
  readonly originUrl: string;
  /** The requests that the origin has received. Their `url` begins after the prefix. */
  readonly requests: readonly IncomingMessage[];
}

interface Through extends Script {
  readonly shard: TestShard;
  /** A request under `/through/` by a caller that may fill. */
  get(name: string, options?: Partial<Call>): Promise<Answer>;
  /** A request for the stored object, by a caller without a right to fill. */
  stored(name: string): Promise<Answer>;
}

interface Respondent {
  readonly respond: RequestListener;
  readonly requests: IncomingMessage[];
}

export const fillHeaders = { ...callerHeaders({ fill: 'web' }) };

const respondents: Respondent[] = [];
const undos: (() => unknown)[] = [];
let originUrl: Promise<string> | undefined;

test.after.always(async () => {
  for (const undo of undos.reverse()) await undo();
});

async function startSharedOrigin(): Promise<string> {
  // Hooks have no teardown, and the service outlives the test that starts it.
  const life = { teardown: (undo: () => unknown) => undos.push(undo) } as unknown as ExecutionContext;
  const { host } = await startScripted(life, (request, response) => {
    const [, number, rest] = /^\/(\d+)(\/.*)$/.exec(request.url ?? '') ?? [];
    const { respond, requests } = respondents[Number(number)] as Respondent;
    request.url = rest;
    requests.push(request);
    respond(request, response);
  });
  // A test that waits in the middle of a body must not fail on a busy machine.
  const entry = `  - { name: web, prefix: web/, http: { url: "http://${host}/" }, allowedHosts: ["127.0.0.1"], timeout: 60s }\n`;
  return (await startOrigin(life, entry)).url;
}

/** Starts an origin for the keys of one test. */
export async function startScript(respond: RequestListener): Promise<Script> {
  originUrl ??= startSharedOrigin();
  const requests: IncomingMessage[] = [];
  const number = respondents.push({ respond, requests }) - 1;
  return { originUrl: await originUrl, prefix: `web/${number}/`, requests };
}

export async function startThrough(
  t: ExecutionContext,
  respond: RequestListener,
  options: Parameters<typeof startTestShard>[1] = {},
): Promise<Through> {
  const script = await startScript(respond);
  const environment = { KURA_CACHE_ORIGIN_URL: script.originUrl, ...options.environment };
  const shard = await startTestShard(t, { ...options, environment });
  return {
    ...script,
    shard,
    get: (name, given = {}) =>
      call(shard.url, { path: `/through/${script.prefix}${name}`, ...given, headers: { ...fillHeaders, ...given.headers } }),
    stored: (name) => call(shard.url, { path: `/objects/${script.prefix}${name}`, headers: { ...callerHeaders() } }),
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
