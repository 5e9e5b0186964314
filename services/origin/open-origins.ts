/** The origins of the document in force, each with its connections and its bound. */
import { isDeepStrictEqual } from 'node:util';
import type { Origin } from '../shared/origins.ts';
import { ConcurrencyLimit } from './concurrency-limit.ts';
import type { ObjectSource } from './sources/object-source.ts';
import { type OriginPath, originPath } from './sources/origin-path.ts';

export interface OpenOrigin {
  readonly origin: Origin;
  readonly source: ObjectSource;
  readonly limit: ConcurrencyLimit;
}

/** Requests that wait for a turn at one origin, of each priority. */
const maxWaiting = 1_000;

/** The name of a key at its origin. Undefined for a key that is not of the origin. */
export function pathAt({ origin }: OpenOrigin, key: string): OriginPath | undefined {
  if (!key.startsWith(origin.prefix)) return undefined;
  return originPath(key.slice(origin.prefix.length), { hasQuery: origin.source.kind === 'http' });
}

export class OpenOrigins {
  readonly #openSource: (origin: Origin) => ObjectSource;
  #byName = new Map<string, OpenOrigin>();
  /** Replaced origins with open requests. */
  readonly #leaving = new Set<OpenOrigin>();

  constructor({ openSource }: { openSource: (origin: Origin) => ObjectSource }) {
    this.#openSource = openSource;
  }

  /** Keeps an origin that has not changed. A replaced origin closes after its open requests. */
  replace(origins: readonly Origin[]): void {
    const before = this.#byName;
    this.#byName = new Map(
      origins.map((origin) => {
        const known = before.get(origin.name);
        return [origin.name, known !== undefined && isDeepStrictEqual(known.origin, origin) ? known : this.#open(origin)];
      }),
    );
    for (const old of before.values()) {
      if (this.#byName.get(old.origin.name) === old) continue;
      if (old.limit.open === 0) void old.source.close();
      else this.#leaving.add(old);
    }
  }

  get(name: string): OpenOrigin | undefined {
    return this.#byName.get(name);
  }

  [Symbol.iterator](): IterableIterator<OpenOrigin> {
    return this.#byName.values();
  }

  async close(): Promise<void> {
    await Promise.all([...this, ...this.#leaving].map(({ source }) => source.close()));
  }

  #open(origin: Origin): OpenOrigin {
    const source = this.#openSource(origin);
    const onIdle = (): void => {
      if (this.#leaving.delete(opened)) void source.close();
    };
    const limit = new ConcurrencyLimit({ max: origin.maxConcurrency, maxWaiting, maxWaitMs: origin.timeoutMs, onIdle });
    const opened = { origin, source, limit };
    return opened;
  }
}
