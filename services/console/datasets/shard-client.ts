/** Requests of the console to the shards, with signed headers that allow it to manage what they store. */

import type { KeyObject } from 'node:crypto';
import { Agent, request } from 'undici';
import type { DatasetUse } from '../../shared/datasets-api.ts';
import type { Shard } from '../../shared/shard-endpoints.ts';
import { signHeaders } from '../../shared/signed-terms.ts';
import { placeOf } from '../../shared/unique-shards.ts';

export type ShardPlace = Pick<Shard, 'hashKey' | 'address' | 'port'>;

export interface ShardTotals extends DatasetUse {
  readonly complete: boolean;
  readonly children: readonly DatasetUse[];
}

export interface ShardKeys {
  /** One line for each key, with its line feed. */
  readonly text: string;
  readonly keys: number;
  readonly next: string | undefined;
  readonly complete: boolean;
}

export interface ShardRemoval {
  readonly state: 'running' | 'done';
  readonly removed: number;
  readonly bytes: number;
}

/** A removal that a shard keeps. */
export interface KeptRemoval extends ShardRemoval {
  readonly prefix: string;
  /** Milliseconds since the epoch, as the console has sent it. */
  readonly before: number;
}

/** A shard answered with a problem. */
export class ShardProblem extends Error {
  readonly code: string;
  constructor(code: string) {
    super(`the shard returned ${code}`);
    this.code = code;
  }
}

interface ShardClientOptions {
  /** Undefined: nothing is signed. The first key signs. */
  readonly keys: () => readonly KeyObject[] | undefined;
  /** Namespace of the console. */
  readonly namespace: string;
  /** In milliseconds since the epoch. */
  readonly now: () => number;
}

const maxConnectMs = 1_000;
/** A shard commits a removal to its disk before it answers. A page of keys ends after 2 s. */
const maxAnswerMs = 5_000;
/** 4,000 keys of 1,024 bytes, with their writers. */
const maxAnswerBytes = 8 * 1024 * 1024;
const termsSeconds = 60;
const keepAliveMs = 4_000;

export class ShardClient {
  readonly #options: ShardClientOptions;
  readonly #agent = new Agent({ connections: 8, pipelining: 1, keepAliveTimeout: keepAliveMs, connect: { timeout: maxConnectMs } });

  constructor(options: ShardClientOptions) {
    this.#options = options;
  }

  totals(shard: ShardPlace, prefix: string): Promise<ShardTotals> {
    return this.#json<ShardTotals>(shard, 'GET', '', { prefix });
  }

  async keys(
    shard: ShardPlace,
    { prefix, after, limit }: { prefix: string; after: string | undefined; limit: number },
  ): Promise<ShardKeys> {
    const text = await this.#send(shard, 'GET', '/keys', { prefix, after, limit: String(limit) });
    const end = text.lastIndexOf('\n', text.length - 2) + 1;
    const { next, complete } = JSON.parse(text.slice(end)) as { next?: string; complete: boolean };
    const lines = text.slice(0, end);
    return { text: lines, keys: lines.split('\n').length - 1, next, complete };
  }

  /** Removes what was stored until `before`. Repeating it is safe, and returns the progress. */
  remove(shard: ShardPlace, { prefix, before }: { prefix: string; before: number }): Promise<ShardRemoval> {
    return this.#json<ShardRemoval>(shard, 'DELETE', '', { prefix, before: String(before) });
  }

  /** The removals of all consoles that the shard keeps: those that run, and the last 256 that have ended. */
  async removals(shard: ShardPlace): Promise<readonly KeptRemoval[]> {
    return (await this.#json<{ removals: KeptRemoval[] }>(shard, 'GET', '/removals', {})).removals;
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #json<T>(
    ...asked: [shard: ShardPlace, method: 'GET' | 'DELETE', path: string, query: Record<string, string | undefined>]
  ): Promise<T> {
    return JSON.parse(await this.#send(...asked)) as T;
  }

  async #send(shard: ShardPlace, method: 'GET' | 'DELETE', path: string, query: Record<string, string | undefined>): Promise<string> {
    const url = new URL(`http://${placeOf(shard)}/datasets${path}`);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    const { statusCode, body } = await request(url, {
      dispatcher: this.#agent,
      method,
      headers: this.#signedHeaders(),
      signal: AbortSignal.timeout(maxAnswerMs),
    });
    const text = await readBounded(body);
    if (statusCode >= 300) throw new ShardProblem(codeOf(text) ?? `status ${statusCode}`);
    return text;
  }

  #signedHeaders(): Record<string, string> {
    const { keys, namespace, now } = this.#options;
    const expiresAtSeconds = Math.ceil(now() / 1000) + termsSeconds;
    const { caller, terms } = signHeaders(
      keys()?.[0],
      { namespace, serviceAccount: 'kura-console', pod: undefined },
      { maxObjectBytes: 0, maxShare: undefined, mayRedirect: false, mayManage: true, expiresAtSeconds },
    );
    return { 'x-kura-caller': caller, 'x-kura-terms': terms };
  }
}

async function readBounded(body: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of body) {
    bytes += piece.length;
    if (bytes > maxAnswerBytes) throw new Error('the response is too long');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

function codeOf(text: string): string | undefined {
  try {
    return (JSON.parse(text) as { code?: string }).code;
  } catch {
    return undefined;
  }
}
