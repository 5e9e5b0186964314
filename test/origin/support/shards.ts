/** A scripted HTTP server in place of Envoy and the shards: it fills by HEAD, and remembers what it has. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ExecutionContext } from 'ava';
import { startScripted } from './origin.ts';

export interface FakeShards {
  readonly url: string;
  /** Sizes of the objects in the cache, by key. */
  readonly stored: Map<string, number>;
  /** Of all requests, in order. */
  readonly requests: IncomingMessage[];
  /** Requests that have no response yet, and their largest number. */
  readonly open: { now: number; most: number };
  /** Responds to a request and returns true, or returns false to leave it to the server. May delay. */
  intercept: (key: string, response: ServerResponse) => boolean | Promise<boolean>;
}

const sizeBytes = 100;

export async function startFakeShards(t: ExecutionContext): Promise<FakeShards> {
  const open = { now: 0, most: 0 };
  const stored: FakeShards['stored'] = new Map();
  const { host, requests } = await startScripted(t, async (request, response) => {
    open.now++;
    open.most = Math.max(open.most, open.now);
    response.on('close', () => open.now--);
    const key = String(request.url).replace('/through/', '');
    if (request.method !== 'HEAD' || key === request.url) return void response.writeHead(405).end();
    if (await shards.intercept(key, response)) return;
    const cache = stored.has(key) ? 'hit' : 'fill';
    stored.set(key, stored.get(key) ?? sizeBytes);
    response.writeHead(200, { 'content-length': stored.get(key), 'x-kura-cache': cache }).end();
  });
  const shards: FakeShards = { url: `http://${host}`, stored, requests, open, intercept: () => false };
  return shards;
}
