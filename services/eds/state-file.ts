/** The last assignment in a file, for the next process: what it serves while the Kubernetes API is away, and what it compares its first list with. */
import { readFileSync } from 'node:fs';
import type { Logger } from '../shared/log.ts';
import type { Shard } from '../shared/shard-endpoints.ts';
import { placeOf } from '../shared/unique-shards.ts';
import { replaceFile } from '../shared/write-file.ts';

interface StateFileOptions {
  readonly file: string;
  /** Name of the assignment. The file of another one is not used. */
  readonly service: string;
  readonly log: Logger;
}

/** Changes when older content must not be read any more. */
const form = 1;

export class StateFile {
  readonly #options: StateFileOptions;
  /** What to write when the present write is over: only the newest counts. */
  #next: string | undefined;
  #writing: Promise<void> | undefined;

  constructor(options: StateFileOptions) {
    this.#options = options;
  }

  /** Undefined when there is no file, or none that can be used. */
  read(): readonly Shard[] | undefined {
    const { file, service, log } = this.#options;
    try {
      const shards = parse(readFileSync(file, 'utf8'), service);
      log.info({ file, shards: shards.length }, 'read the last assignment');
      return shards;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        log.warn({ file, reason: (error as Error).message }, 'cannot use the saved assignment; starting without it');
      }
      return undefined;
    }
  }

  save(shards: readonly Shard[]): void {
    this.#next = JSON.stringify({ form, service: this.#options.service, shards });
    this.#writing ??= this.#write();
  }

  /** Resolves when everything is written. */
  async close(): Promise<void> {
    await this.#writing;
  }

  async #write(): Promise<void> {
    const { file, log } = this.#options;
    while (this.#next !== undefined) {
      const content = this.#next;
      this.#next = undefined;
      await replaceFile(file, content).catch((error: Error) =>
        log.warn({ file, reason: error.message }, 'cannot save the assignment for a restart'),
      );
    }
    this.#writing = undefined;
  }
}

function parse(content: string, service: string): readonly Shard[] {
  const state = JSON.parse(content) as { form?: unknown; service?: unknown; shards?: unknown } | null;
  if (state?.form !== form) throw new Error(`form is ${state?.form}; it must be ${form}`);
  if (state.service !== service) throw new Error(`it is the assignment of ${state.service}, not of ${service}`);
  if (!Array.isArray(state.shards) || !state.shards.every(isShard)) throw new Error('a shard lacks a field');
  const shards: readonly Shard[] = state.shards;
  // Envoy drops the second of two endpoints with one address, and Maglev breaks with one hash_key twice.
  for (const ids of [shards.map(({ hashKey }) => hashKey), shards.map(placeOf)]) {
    if (new Set(ids).size !== ids.length) throw new Error('a shard occurs twice');
  }
  return shards;
}

function isShard(value: unknown): value is Shard {
  const { hashKey, address, port, metricsPort, health, zone, node, weight } = (value ?? {}) as Record<string, unknown>;
  return (
    [hashKey, address, zone, node].every((text) => typeof text === 'string') &&
    [port, metricsPort, weight].every((number) => Number.isSafeInteger(number)) &&
    ['HEALTHY', 'DRAINING', 'UNHEALTHY'].includes(String(health))
  );
}
