/** An HTTP server as an origin. A body has a pattern that clients check byte by byte, and it can stop at a gate. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, get, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Placed {
  readonly bytes: number;
  /** Bytes that are sent before the gate opens. */
  readonly gateAt: number;
  readonly gate: Promise<void>;
}

export interface WebOrigin {
  readonly port: number;
  /** `METHOD path` of each request. */
  readonly requests: string[];
  /** Requests for one path. */
  readonly count: (path: string) => number;
  /** Places an object. With `gateAt`, its body stops there until `open` is called. */
  readonly place: (path: string, object: { bytes: number; gateAt?: number }) => { open: () => void };
  readonly redirect: (path: string, location: string) => void;
  readonly close: () => void;
}

/** No block of a shard is a multiple of it, so each block has other bytes. */
const patternBytes = 1_000_003;
const block = randomBytes(patternBytes);
const pattern = Buffer.concat([block, block]);

/** Up to 1,000,003 bytes of every object, from the position `at`. */
function patternAt(at: number, bytes: number): Buffer {
  return pattern.subarray(at % patternBytes, (at % patternBytes) + Math.min(bytes, patternBytes));
}

export function patternOf(bytes: number): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes; at += patternBytes) pieces.push(patternAt(at, bytes - at));
  return Buffer.concat(pieces);
}

export async function startWebOrigin(): Promise<WebOrigin> {
  const placed = new Map<string, Placed>();
  const redirects = new Map<string, string>();
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url as string;
    requests.push(`${request.method} ${path}`);
    const [object, location] = [placed.get(path), redirects.get(path)];
    if (location !== undefined) return response.writeHead(302, { location }).end();
    if (object === undefined) return response.writeHead(404).end();
    response.writeHead(200, { 'content-length': object.bytes, etag: '"v1"' });
    if (request.method === 'HEAD') response.end();
    else void sendBody(response, object).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    count: (path) => requests.filter((each) => each.endsWith(` ${path}`)).length,
    place: (path, { bytes, gateAt = bytes }) => {
      const { promise: gate, resolve: open } = Promise.withResolvers<void>();
      placed.set(path, { bytes, gateAt, gate });
      return { open };
    },
    redirect: (path, location) => void redirects.set(path, location),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function sendBody(response: ServerResponse, { bytes, gateAt, gate }: Placed): Promise<void> {
  const left = new AbortController();
  response.on('close', () => left.abort());
  for (let at = 0; at < bytes; ) {
    if (at === gateAt) await gate;
    const piece = patternAt(at, (at < gateAt ? gateAt : bytes) - at);
    at += piece.length;
    if (!response.write(piece)) await once(response, 'drain', { signal: left.signal });
  }
  response.end();
}

/** A request whose body is checked while it arrives. */
export interface Reading {
  /** Resolves with the head. */
  readonly head: Promise<{ readonly status: number; readonly headers: IncomingHttpHeaders }>;
  readonly firstByte: Promise<void>;
  /** `left`: the client left itself. Rejects if a byte differs from the pattern, or for another status than 200. */
  readonly ended: Promise<'whole' | 'broken' | 'left'>;
  readonly leave: () => void;
}

/** With `leaveAt`, the client leaves after so many bytes. */
export function readPattern(url: string, token: string, leaveAt = Number.POSITIVE_INFINITY): Reading {
  const head = Promise.withResolvers<{ status: number; headers: IncomingHttpHeaders }>();
  const firstByte = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<'whole' | 'broken' | 'left'>();
  const fail = (error: Error): void => {
    for (const each of [head, firstByte, ended]) each.reject(error);
  };
  for (const { promise } of [head, firstByte, ended]) (promise as Promise<unknown>).catch(() => undefined);
  const request = get(url, { agent: false, headers: { authorization: `Bearer ${token}` } }, (response) => {
    const status = response.statusCode as number;
    head.resolve({ status, headers: response.headers });
    if (status !== 200) fail(new Error(`the response has the status ${status}`));
    let at = 0;
    response.on('data', (chunk: Buffer) => {
      firstByte.resolve();
      if (status === 200 && !chunk.equals(patternAt(at, chunk.length))) fail(new Error(`a byte after ${at} is wrong`));
      at += chunk.length;
      if (at < leaveAt) return;
      ended.resolve('left');
      request.destroy();
    });
    response.on('error', () => undefined);
    response.on('close', () => {
      firstByte.reject(new Error('the response has no byte'));
      ended.resolve(response.complete ? 'whole' : 'broken');
    });
  });
  request.on('error', fail);
  return { head: head.promise, firstByte: firstByte.promise, ended: ended.promise, leave: () => request.destroy() };
}
