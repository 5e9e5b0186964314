/** Reads the shards' own metrics, again and again: a few at a time, each with a time-out, so that xDS beside it notices nothing. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { readShardNumbers, type ShardNumbers } from '../../shared/shard-numbers.ts';
import type { Shard } from '../shard.ts';
import { History } from './history.ts';

const maxAnswerMs = 2_000;
/** A shard's page has some 30 KiB. */
const maxPageBytes = 1024 * 1024;
const maxConcurrent = 8;

interface ShardWatchOptions {
  readonly shards: () => readonly Shard[];
  /** 0: the shards are not asked. */
  readonly intervalMs: number;
}

export class ShardWatch {
  readonly history = new History({ startedAt: Date.now() });
  readonly #options: ShardWatchOptions;
  readonly #numbers = new Map<string, ShardNumbers>();
  readonly #stopping = new AbortController();
  readonly #work: Promise<void>;

  constructor(options: ShardWatchOptions) {
    this.#options = options;
    this.#work = this.#run();
  }

  /** What the shard said when it was asked last; undefined when it did not answer, or has not been asked. */
  numbersOf(hashKey: string): ShardNumbers | undefined {
    return this.#numbers.get(hashKey);
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#work;
  }

  async #run(): Promise<void> {
    const { intervalMs } = this.#options;
    const { signal } = this.#stopping;
    while (intervalMs > 0 && !signal.aborted) {
      const pause = delay(intervalMs, undefined, { signal, ref: false }).catch(() => undefined);
      await this.#askAll();
      await pause;
    }
  }

  async #askAll(): Promise<void> {
    const shards = [...this.#options.shards()];
    const present = new Set(shards.map(({ hashKey }) => hashKey));
    for (const hashKey of this.#numbers.keys()) if (!present.has(hashKey)) this.#numbers.delete(hashKey);
    this.history.keepOnly(present);
    const askNext = async (): Promise<void> => {
      for (let shard = shards.pop(); shard !== undefined && !this.#stopping.signal.aborted; shard = shards.pop()) await this.#ask(shard);
    };
    await Promise.all(Array.from({ length: maxConcurrent }, askNext));
  }

  /** Does not reject. */
  async #ask(shard: Shard): Promise<void> {
    const numbers = await this.#read(shard).catch(() => undefined);
    if (numbers === undefined) {
      this.#numbers.delete(shard.hashKey);
      return;
    }
    this.#numbers.set(shard.hashKey, numbers);
    this.history.take(shard.hashKey, numbers.totals, Date.now());
  }

  /** A connection for each page: kept ones to 1,000 shards would cost more memory than all else here. */
  async #read({ address, metricsPort }: Shard): Promise<ShardNumbers | undefined> {
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(maxAnswerMs)]);
    const outgoing = request({ host: address, port: metricsPort, path: '/metrics', agent: false, signal });
    // Also one that comes after somebody stopped listening must not end the process.
    outgoing.on('error', () => undefined);
    outgoing.end();
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of response as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > maxPageBytes) throw new Error('the page is too long');
      pieces.push(piece);
    }
    return readShardNumbers(Buffer.concat(pieces).toString());
  }
}
