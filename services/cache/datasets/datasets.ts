/** What the console asks of a shard: the totals of its data sets, the keys under a prefix, and the removal of a prefix. */
import { isKey } from '../../shared/key.ts';
import type { ObjectMeta } from '../disk/trailer.ts';
import type { Catalog } from '../index/catalog.ts';
import { type Clock, tickMs } from '../index/clock.ts';
import { type DatasetUse, datasetTotals } from '../index/dataset-totals.ts';
import { decodeCursor, encodeCursor } from './cursor.ts';
import type { Keys } from './keys.ts';
import type { Removal, Removals } from './removals.ts';
import type { Sweep } from './sweep.ts';

/** Data sets that a response lists. The rest is one sum. */
const maxChildren = 1_000;
/** Lists of keys at the same time. */
const maxLists = 4;

interface DatasetsOptions {
  readonly secret: string;
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly keys: Keys;
  readonly removals: Removals;
  readonly sweep: Sweep;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** The lines of one page of keys. The caller reads it to its end, or returns it. */
type KeyLines = AsyncGenerator<string, void>;

export class Datasets {
  readonly #options: DatasetsOptions;
  #lists = 0;

  constructor(options: DatasetsOptions) {
    this.#options = options;
  }

  totals(prefix: string): object {
    const { catalog } = this.#options;
    const { total, children, isWhole } = datasetTotals(catalog, prefix, maxChildren);
    return { complete: isWhole && catalog.space.isCounted, ...this.#show(total), children: children.map((use) => this.#show(use)) };
  }

  keys(request: { prefix: string; after: string | undefined; limit: number; signal: AbortSignal }): KeyLines | 'bad-cursor' | 'busy' {
    const { prefix, after } = request;
    const cursor = after === undefined ? undefined : decodeCursor(after, { secret: this.#options.secret, prefix });
    if (after !== undefined && cursor === undefined) return 'bad-cursor';
    if (this.#lists >= maxLists) return 'busy';
    return this.#lines({ ...request, after: cursor });
  }

  /** Resolves when the removal is durable; `busy` if too many are running. Rejects with a disk fault. */
  async remove(prefix: string, beforeMs: number | undefined): Promise<object | 'busy'> {
    const { removals, sweep } = this.#options;
    const removal = await removals.add(prefix, beforeMs);
    if (removal === undefined) return 'busy';
    sweep.start();
    return { removal: removal.id, ...shownRemoval(removal) };
  }

  removal(id: string): object | undefined {
    const removal = this.#options.removals.find(id);
    return removal === undefined ? undefined : shownRemoval(removal);
  }

  /** The removals that another console can repeat at other shards: those with a time of the request. */
  removals(): object[] {
    return this.#options.removals.all.flatMap(({ prefix, askedMs, state, removed, bytes }) =>
      askedMs === undefined ? [] : { prefix, before: askedMs, state, removed, bytes },
    );
  }

  async *#lines(request: Parameters<Keys['page']>[0]): KeyLines {
    const { keys, catalog, secret } = this.#options;
    this.#lists += 1;
    try {
      const page = keys.page(request);
      let step = await page.next();
      for (; step.done !== true; step = await page.next()) {
        if (step.value.length > 0) yield step.value.map((meta) => line(shownKey(meta))).join('');
      }
      const { next, isWhole } = step.value;
      yield line({
        ...(next === undefined ? {} : { next: encodeCursor(next, { secret, prefix: request.prefix }) }),
        complete: isWhole && catalog.space.isCounted,
      });
    } finally {
      this.#lists -= 1;
    }
  }

  #show({ prefix, objects, bytes, hits, misses, lastTick }: DatasetUse): object {
    const { clock, now } = this.#options;
    const lastUsed = lastTick === undefined ? null : new Date(now() - (clock.tick() - lastTick) * tickMs).toISOString();
    return { prefix, objects, bytes, hits, misses, lastUsed };
  }
}

/** A prefix is empty or ends with a slash: it never cuts a segment. */
export function isPrefix(text: string): boolean {
  return text === '' || (text.endsWith('/') && isKey(text));
}

function shownRemoval({ id, prefix, time, state, removed, bytes }: Removal): object {
  return { id, prefix, before: Math.floor(time / 1000), state, removed, bytes };
}

function shownKey({ key, length, committedAt, namespace, serviceAccount, pod }: ObjectMeta): object {
  const writer = namespace === '' ? '' : `${namespace}/${serviceAccount}/${pod === '' ? '-' : pod}`;
  return { key, size: length, modified: new Date(Number(committedAt / 1000n)).toISOString(), writer };
}

function line(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
