/** Answers the requests of the console under `/datasets`, on Node's HTTP server. The signed terms must have `manage=yes`. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isPrefix } from '../datasets/datasets.ts';
import { within } from '../disk/deadline.ts';
import { type ProblemCode, problemResponse } from './problems.ts';
import type { ObjectService } from './service.ts';

const datasetsPath = '/datasets';
const defaultKeys = 1_000;
const maxKeys = 4_000;

type Query = ReadonlyMap<string, string>;

/** Resolves when the response has ended. Rejects if the transfer broke. */
export async function answerDatasets(
  service: ObjectService,
  { message, target, response }: { message: IncomingMessage; target: string; response: ServerResponse },
): Promise<void> {
  message.resume();
  const refuse = (code: ProblemCode, fields: readonly string[] = []) => {
    const problem = problemResponse(code);
    response.writeHead(problem.status, [...fields, ...problem.fields]).end(message.method === 'HEAD' ? undefined : problem.body);
  };
  const { 'x-kura-caller': caller, 'x-kura-terms': terms } = message.headers;
  const known = service.callers.identify(textOf(caller), textOf(terms));
  if (typeof known === 'string') {
    service.counters.badCallers[known] += 1;
    return refuse('bad-caller');
  }
  if (!known.mayManage) return refuse('not-manager');
  const { pathname, query } = readTarget(target);
  const route = routes[pathname];
  if (route === undefined) return refuse('no-such-path');
  const answer = route.methods[message.method ?? ''];
  if (answer === undefined) return refuse('method-not-allowed', ['allow', Object.keys(route.methods).join(', ')]);
  if (query === undefined || [...query.keys()].some((name) => !route.parameters.includes(name))) return refuse('bad-query');
  const prefix = query.get('prefix');
  if (prefix !== undefined && !isPrefix(prefix)) return refuse('bad-prefix');
  const code = await answer({ service, query, response });
  if (code !== undefined) refuse(code);
}

interface Asked {
  readonly service: ObjectService;
  readonly query: Query;
  readonly response: ServerResponse;
}

interface Route {
  readonly parameters: readonly string[];
  /** By method. They resolve with the code of a problem, or with undefined after they have answered. */
  readonly methods: Readonly<Record<string, (asked: Asked) => Promise<ProblemCode | undefined>>>;
}

const routes: Readonly<Record<string, Route>> = {
  [datasetsPath]: { parameters: ['prefix', 'before'], methods: { GET: showTotals, DELETE: removePrefix } },
  [`${datasetsPath}/keys`]: { parameters: ['prefix', 'after', 'limit'], methods: { GET: listKeys } },
  [`${datasetsPath}/removals`]: { parameters: [], methods: { GET: listRemovals } },
  [`${datasetsPath}/removal`]: { parameters: ['id'], methods: { GET: showRemoval } },
};

async function showTotals({ service, query, response }: Asked): Promise<ProblemCode | undefined> {
  const prefix = query.get('prefix');
  if (prefix === undefined || query.has('before')) return 'bad-query';
  sendJson(response, 200, { shard: service.name, ...service.datasets.totals(prefix) });
  return undefined;
}

async function removePrefix({ service, query, response }: Asked): Promise<ProblemCode | undefined> {
  const prefix = query.get('prefix');
  const before = wholeNumber(query.get('before'));
  if (prefix === undefined || before === 'malformed') return 'bad-query';
  if (service.health.isReadOnly) return 'read-only';
  try {
    // After the deadline the removal may still come into force: the client must repeat its request.
    const removal = await within(service.budget.commitMs, service.datasets.remove(prefix, before));
    if (removal === 'busy') return 'too-many-removals';
    sendJson(response, 202, removal);
    return undefined;
  } catch (error) {
    service.health.note(error, 'write');
    return 'disk-fault';
  }
}

async function showRemoval({ service, query, response }: Asked): Promise<ProblemCode | undefined> {
  const removal = service.datasets.removal(query.get('id') ?? '');
  if (removal === undefined) return 'no-such-removal';
  sendJson(response, 200, removal);
  return undefined;
}

async function listRemovals({ service, response }: Asked): Promise<undefined> {
  sendJson(response, 200, { removals: service.datasets.removals() });
}

async function listKeys({ service, query, response }: Asked): Promise<ProblemCode | undefined> {
  const prefix = query.get('prefix');
  const limit = wholeNumber(query.get('limit'));
  if (prefix === undefined || limit === 'malformed' || limit === 0) return 'bad-query';
  const closed = new AbortController();
  response.once('close', () => closed.abort());
  const lines = service.datasets.keys({
    prefix,
    after: query.get('after'),
    limit: Math.min(limit ?? defaultKeys, maxKeys),
    signal: closed.signal,
  });
  if (lines === 'bad-cursor') return lines;
  if (lines === 'busy') return 'too-many-lists';
  response.writeHead(200, ['content-type', 'application/x-ndjson']);
  // A client that reads nothing must not hold the list.
  response.setTimeout(service.readerTimeoutMs, () => response.destroy());
  await pipeline(Readable.from(lines, { highWaterMark: 1 }), response);
  return undefined;
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  const body = `${JSON.stringify(value)}\n`;
  response.writeHead(status, ['content-type', 'application/json', 'content-length', String(Buffer.byteLength(body))]).end(body);
}

/** The query is undefined if a parameter occurs twice. */
function readTarget(target: string): { pathname: string; query: Query | undefined } {
  const start = target.indexOf('?');
  if (start === -1) return { pathname: target, query: new Map() };
  const pairs = [...new URLSearchParams(target.slice(start + 1))];
  const query = new Map(pairs);
  return { pathname: target.slice(0, start), query: query.size === pairs.length ? query : undefined };
}

function wholeNumber(text: string | undefined): number | undefined | 'malformed' {
  if (text === undefined) return undefined;
  return /^\d{1,15}$/.test(text) ? Number(text) : 'malformed';
}

/** Node joins a repeated field with commas, which makes its signature invalid. */
function textOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? undefined : value;
}
