/** The HTTP edge for Envoy: `/datasets/<prefix>`. authz has checked the rights of the caller over the whole prefix. */
import type { KeyObject } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { ListenAddress } from '../../shared/environment.ts';
import { parsePrefixTarget } from '../../shared/key.ts';
import { type Listening, listen } from '../../shared/listen.ts';
import type { Logger } from '../../shared/log.ts';
import { problemResponse } from '../../shared/problem.ts';
import { readHeaders } from '../../shared/signed-terms.ts';
import { each } from './each-shard.ts';
import { BadCursorError, keyPage } from './key-pages.ts';
import { type ProblemCode, problems, retryAfterSeconds } from './problems.ts';
import type { Removals } from './removals.ts';
import type { ShardClient, ShardPlace } from './shard-client.ts';
import { TotalsSum } from './totals.ts';

interface DatasetsServerOptions {
  readonly address: ListenAddress;
  readonly client: ShardClient;
  readonly removals: Removals;
  /** Undefined before the first list. */
  readonly shards: () => readonly ShardPlace[] | undefined;
  readonly keys: () => readonly KeyObject[] | undefined;
  /** In milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: Logger;
}

interface Asked {
  readonly prefix: string;
  readonly query: ReadonlyMap<string, string>;
  readonly shards: readonly ShardPlace[];
  readonly response: ServerResponse;
}

const maxRequests = 16;
const maxHeadBytes = 16 * 1024;
const maxHeadMs = 5_000;
/** Above the timeout of Envoy's route. */
const maxResponseMs = 35_000;
const maxConnections = 1_024;
const defaultKeys = 1_000;
const maxKeys = 10_000;

export function startDatasetsServer(options: DatasetsServerOptions): Promise<Listening> {
  let running = 0;
  const server = createServer({ maxHeaderSize: maxHeadBytes, headersTimeout: maxHeadMs }, (request, response) => {
    request.resume();
    if (running >= maxRequests) return sendProblem(response, 'busy');
    running += 1;
    // A client that reads nothing must not keep its turn.
    response.setTimeout(maxResponseMs, () => response.destroy());
    handle(request, response, options)
      .catch((error: unknown) => {
        options.log.error({ err: error }, 'unexpected fault');
        if (response.headersSent) response.destroy();
        else sendProblem(response, 'failed');
      })
      .finally(() => {
        running -= 1;
      });
  });
  server.maxConnections = maxConnections;
  return listen(server, options.address);
}

async function handle(request: IncomingMessage, response: ServerResponse, options: DatasetsServerOptions): Promise<void> {
  const refuse = (code: ProblemCode) => sendProblem(response, code);
  const target = parsePrefixTarget(request.url ?? '');
  if (target.kind === 'bad-prefix') return refuse('bad-prefix');
  if (target.kind === 'other-path' || target.service !== 'datasets') return refuse('no-such-path');
  if (!isAdmitted(request.headers, options)) return refuse('bad-caller');
  const query = readQuery(request.url ?? '');
  if (query === undefined) return refuse('bad-query');
  const shards = options.shards();
  if (shards === undefined) return refuse('shards-unknown');
  const code = await answer(request.method ?? '', { prefix: target.prefix, query, shards, response }, options);
  if (code !== undefined) refuse(code);
}

/** Resolves with the code of a problem, or with undefined after the response. */
function answer(method: string, asked: Asked, options: DatasetsServerOptions): Promise<ProblemCode | undefined> | ProblemCode {
  const { query } = asked;
  const has = (...names: readonly string[]): boolean => [...query.keys()].every((name) => names.includes(name));
  if (method === 'DELETE') return has() ? remove(asked, options) : 'bad-query';
  if (method !== 'GET') return 'method-not-allowed';
  if (query.has('removal')) return has('removal') ? showRemoval(asked, options) : 'bad-query';
  if (query.has('keys')) return has('keys', 'after', 'limit') ? listKeys(asked, options) : 'bad-query';
  return has() ? showTotals(asked, options) : 'bad-query';
}

async function showTotals({ prefix, shards, response }: Asked, { client }: DatasetsServerOptions): Promise<undefined> {
  const sum = new TotalsSum(prefix);
  await each(shards, async (shard) => {
    sum.add({ shard: shard.hashKey, result: await client.totals(shard, prefix).catch(() => undefined) });
  });
  sendJson(response, 200, sum.result());
}

async function listKeys({ prefix, query, shards, response }: Asked, { client }: DatasetsServerOptions): Promise<ProblemCode | undefined> {
  const limit = query.get('limit') ?? String(defaultKeys);
  if (query.get('keys') !== '' || !/^[1-9]\d{0,8}$/.test(limit)) return 'bad-query';
  const left = new AbortController();
  response.once('close', () => left.abort());
  const request = { prefix, after: query.get('after'), limit: Math.min(Number(limit), maxKeys), signal: left.signal };
  const page = keyPage(client, shards, request);
  try {
    let step = await page.next();
    response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
    for (; step.done !== true; step = await page.next()) {
      if (response.write(step.value) || left.signal.aborted) continue;
      await new Promise<void>((resolve) => {
        response.once('drain', resolve);
        left.signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    response.end(`${JSON.stringify(step.value)}\n`);
    return undefined;
  } catch (error) {
    if (error instanceof BadCursorError && !response.headersSent) return error.code;
    throw error;
  }
}

async function remove({ prefix, response }: Asked, { removals, log }: DatasetsServerOptions): Promise<ProblemCode | undefined> {
  const progress = await removals.start(prefix);
  if (progress === undefined) return 'too-many-removals';
  log.info({ prefix, removal: progress.removal }, 'a prefix is removed');
  sendJson(response, 202, progress);
  return undefined;
}

async function showRemoval({ prefix, query, response }: Asked, { removals }: DatasetsServerOptions): Promise<ProblemCode | undefined> {
  const progress = await removals.progress(prefix, query.get('removal') ?? '');
  if (progress === undefined) return 'no-such-removal';
  sendJson(response, 200, progress);
  return undefined;
}

function isAdmitted(headers: IncomingHttpHeaders, { keys, now }: DatasetsServerOptions): boolean {
  const { 'x-kura-caller': caller, 'x-kura-terms': terms } = headers;
  if (typeof caller !== 'string' || typeof terms !== 'string') return false;
  const read = readHeaders(keys(), { caller, terms });
  return read.kind === 'good' && read.terms.expiresAtSeconds * 1000 > now();
}

/** Undefined if a parameter occurs twice. */
function readQuery(target: string): ReadonlyMap<string, string> | undefined {
  const start = target.indexOf('?');
  const pairs = start === -1 ? [] : [...new URLSearchParams(target.slice(start + 1))];
  const query = new Map(pairs);
  return query.size === pairs.length ? query : undefined;
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(`${JSON.stringify(value)}\n`);
}

function sendProblem(response: ServerResponse, code: ProblemCode): void {
  const { status, headers, body } = problemResponse({ code, ...problems[code] }, retryAfterSeconds[code]);
  response.writeHead(status, headers).end(body);
}
