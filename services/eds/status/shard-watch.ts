/** Reads the metrics of the shards at an interval: a few at a time, each with a timeout, so that xDS is not delayed. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { readShardNumbers, type ShardNumbers } from '../../shared/shard-numbers.ts';
import type { Shard } from '../shard.ts';
import { History } from './history.ts';

const maxAnswerMs = 2_000;
/** The metrics of a shard have some 30 KiB. */
const maxPageBytes = 1024 * 1024;
const maxConcurrent = 8;
const firstPollMs = 500;

interface ShardWatchOptions {
  readonly shards: () => readonly Shard[];
  /** 0 = never. */
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

  /** The shard's last numbers; undefined before the first response, or when the last read failed. */
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
      // Before the first list there is nobody to ask, and a reader of the page must not wait for a whole interval.
      const pauseMs = this.#options.shards().length === 0 ? Math.min(intervalMs, firstPollMs) : intervalMs;
      const pause = delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
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

  /** Opens a connection for each request: idle connections to 1,000 shards would use more memory than the rest of eds. */
  async #read({ address, metricsPort }: Shard): Promise<ShardNumbers | undefined> {
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(maxAnswerMs)]);
    const outgoing = request({ host: address, port: metricsPort, path: '/metrics', agent: false, signal });
    // An error after the last listener was removed must not end the process.
    outgoing.on('error', () => undefined);
    outgoing.end();
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of response as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > maxPageBytes) throw new Error('the response is too long');
      pieces.push(piece);
    }
    return readShardNumbers(Buffer.concat(pieces).toString());
  }
}
