/** The HTTP edge for prefetch jobs, behind Envoy: `/prefetch/<prefix>`, for requests with signed terms that name an origin. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { ListenAddress } from '../../shared/environment.ts';
import { canonicalKey, isKey } from '../../shared/key.ts';
import { type Listening, listen } from '../../shared/listen.ts';
import type { Logger } from '../../shared/log.ts';
import { type FillTerms, formatCaller } from '../../shared/signed-terms.ts';
import type { Admission, Admitted } from '../admission.ts';
import { type OpenOrigin, type OpenOrigins, pathAt } from '../open-origins.ts';
import { type ProblemCode, sendProblem } from '../problems.ts';
import type { Job } from './job.ts';
import { type Jobs, shortId } from './jobs.ts';
import { readKeys } from './key-list.ts';

interface PrefetchServerOptions {
  readonly address: ListenAddress;
  readonly origins: OpenOrigins;
  readonly admission: Admission;
  readonly jobs: Jobs;
  /** Whether a document is in force. */
  readonly isReady: () => boolean;
  readonly log: Logger;
}

interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly prefix: string;
  readonly id: string;
  readonly admitted: Admitted;
  readonly fill: FillTerms;
}

const maxHeadBytes = 16 * 1024;
const maxHeadMs = 5_000;
/** For a body with keys. */
const maxRequestMs = 60_000;
const maxBodyBytes = 64 * 2 ** 20;
/** Above the 50 s after which Envoy closes an idle connection: Envoy must not use a connection that ends. */
const keepAliveMs = 120_000;
const maxConnections = 1_024;

export function startPrefetchServer(options: PrefetchServerOptions): Promise<Listening> {
  const limits = { maxHeaderSize: maxHeadBytes, headersTimeout: maxHeadMs, requestTimeout: maxRequestMs, keepAliveTimeout: keepAliveMs };
  const server = createServer(limits, (request, response) => {
    handle(request, response, options).catch((error: unknown) => {
      // A caller that leaves breaks the body.
      if (request.errored === null) options.log.error({ err: error }, 'unexpected fault');
      response.destroy();
    });
  });
  server.maxConnections = maxConnections;
  return listen(server, options.address);
}

async function handle(request: IncomingMessage, response: ServerResponse, options: PrefetchServerOptions): Promise<void> {
  const [, prefix, query = ''] = /^\/prefetch\/([^?]*)(?:\?(.*))?$/.exec(request.url ?? '') ?? [];
  if (prefix === undefined) return refuse(request, response, 'no-such-path');
  const admitted = options.admission.admit(request.headers);
  if (admitted === undefined) return refuse(request, response, 'bad-caller');
  if ((prefix !== '' && !(prefix.endsWith('/') && isKey(prefix))) || canonicalKey(prefix) !== prefix)
    return refuse(request, response, 'bad-prefix');
  // authz names the origin only if the caller has GET and FILL over the whole prefix.
  const { fill } = admitted;
  if (fill === undefined) return refuse(request, response, 'no-origin');
  const call = { request, response, prefix, id: new URLSearchParams(query).get('id') ?? '', admitted, fill };
  switch (request.method) {
    case 'POST':
      return await post(call, options);
    case 'GET':
    case 'DELETE':
      return followOrStop(call, options);
    default:
      return refuse(request, response, 'method-not-allowed', { allow: 'POST, GET, DELETE' });
  }
}

async function post(call: Call, options: PrefetchServerOptions): Promise<void> {
  const { request, response, prefix, fill } = call;
  const { caller, terms } = call.admitted;
  const origin = options.origins.get(fill.origin);
  if (!options.isReady()) return refuse(request, response, 'origins-unavailable');
  if (origin === undefined || pathAt(origin, prefix) === undefined) return refuse(request, response, 'no-origin');
  if (!hasBody(request) && origin.source.list === undefined) return refuse(request, response, 'no-list');
  if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes) return refuse(request, response, 'body-too-large');
  const slot = options.jobs.reserve(caller.namespace);
  if (typeof slot === 'string') return refuse(request, response, slot);
  let job: Job | undefined;
  try {
    const counts = hasBody(request)
      ? await readKeys(request.iterator({ destroyOnReturn: false }), { prefix, queue: slot.queue, maxBodyBytes })
      : undefined;
    if (hasBody(request) && counts === undefined) return refuse(request, response, 'body-too-large');
    job = slot.start({ prefix, counts, caller, terms: { ...terms, fill }, maxObjectBytes: maxBytesOf(terms.maxObjectBytes, origin) });
  } finally {
    if (job === undefined) slot.release();
  }
  audit('start', job, call, options);
  const { progress } = job;
  sendJson(response, 202, progress, { location: `/prefetch/${prefix}?id=${progress.id}` });
}

function followOrStop(call: Call, options: PrefetchServerOptions): void {
  const { request, response, prefix, id } = call;
  const job = options.jobs.find(id, prefix);
  if (job === undefined) {
    refuse(request, response, 'no-such-job');
    return;
  }
  if (request.method === 'DELETE') {
    job.stop();
    audit('stop', job, call, options);
  }
  sendJson(response, 200, job.progress);
}

function maxBytesOf(ofCaller: number, { origin }: OpenOrigin): number {
  return Math.min(ofCaller, origin.maxObjectBytes);
}

function audit(action: 'start' | 'stop', job: Job, { admitted }: Call, { log }: PrefetchServerOptions): void {
  const { id, prefix, origin, accepted, rejected, dropped } = job.progress;
  const audited = { action, who: formatCaller(admitted.caller), job: shortId(id), prefix, origin, accepted, rejected, dropped };
  log.info({ audit: audited }, 'prefetch');
}

function sendJson(response: ServerResponse, status: number, value: object, headers: Readonly<Record<string, string>> = {}): void {
  const body = `${JSON.stringify(value)}\n`;
  response.writeHead(status, { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }).end(body);
}

/** A body that nobody reads ends the connection after the response. */
function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  code: ProblemCode,
  headers: Readonly<Record<string, string>> = {},
): void {
  sendProblem(response, code, hasBody(request) && !request.complete ? { ...headers, connection: 'close' } : headers);
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}
