/** Pure: the sum over all shards for each minute of the last hour. The clock is a parameter, in milliseconds since the epoch. */
import { noTotals, type Totals, totalNames } from '../../shared/shard-numbers.ts';

const minutesKept = 60;

export interface Minute extends Totals {
  /** Minutes since the epoch. */
  readonly minute: number;
}

export class History {
  readonly startedAt: number;
  #minutes: Minute[] = [];
  /** The last totals of each shard. */
  readonly #last = new Map<string, Totals>();

  constructor({ startedAt }: { startedAt: number }) {
    this.startedAt = startedAt;
  }

  /** Takes a shard's totals since its start. The first totals of a shard are only the base for later differences. */
  take(shard: string, totals: Totals, now: number): void {
    const before = this.#last.get(shard);
    this.#last.set(shard, totals);
    if (before === undefined) return;
    const isNew = totalNames.some((name) => totals[name] < before[name]);
    this.#add(difference(totals, isNew ? noTotals : before), Math.floor(now / 60_000));
  }

  /** Forgets all other shards. */
  keepOnly(shards: ReadonlySet<string>): void {
    for (const shard of this.#last.keys()) if (!shards.has(shard)) this.#last.delete(shard);
  }

  /** The last sixty minutes, ending with the current one. Minutes without data are zero. */
  minutes(now: number): Minute[] {
    const last = Math.floor(now / 60_000);
    const known = new Map(this.#minutes.map((each) => [each.minute, each]));
    return Array.from({ length: minutesKept }, (_, index) => {
      const minute = last - minutesKept + 1 + index;
      return known.get(minute) ?? { minute, ...noTotals };
    });
  }

  #add(done: Totals, minute: number): void {
    const newest = this.#minutes.at(-1);
    if (newest?.minute === minute) this.#minutes[this.#minutes.length - 1] = { minute, ...sum(newest, done) };
    else this.#minutes = [...this.#minutes.slice(1 - minutesKept), { minute, ...done }];
  }
}

export function sum(one: Totals, other: Totals): Totals {
  return combine((name) => one[name] + other[name]);
}

function difference(one: Totals, other: Totals): Totals {
  return combine((name) => one[name] - other[name]);
}

function combine(of: (name: keyof Totals) => number): Totals {
  return Object.fromEntries(totalNames.map((name) => [name, of(name)])) as unknown as Totals;
}
