/**
 * Pure: the counts of all parts together, for each minute of the last 24 hours. The clock is a parameter, in milliseconds since the epoch.
 */

export type Counts = Readonly<Record<string, number>>;

export interface Minute {
  /** Minutes since the epoch. */
  readonly minute: number;
  readonly counts: Counts;
}

const minutesKept = 24 * 60;
/** Counts of one minute. Labels of namespaces are bounded where they are counted, so that this is never reached in practice. */
const maxCounts = 2_000;

export class History {
  #minutes: Minute[];
  /** The last counts of each source, since the start of the source. */
  readonly #last = new Map<string, Counts>();

  /** `minutes` are those of an earlier process. */
  constructor(minutes: readonly Minute[] = []) {
    this.#minutes = minutes.slice(-minutesKept);
  }

  /** All minutes that have counts, the oldest first. */
  get all(): readonly Minute[] {
    return this.#minutes;
  }

  /**
   * Takes the counts of a source since its start. The first counts of a source are only the base for later differences, unless it is `isNew`:
   * everything that it has counted is of the time of this history.
   */
  take(source: string, counts: Counts, now: number, isNew = false): void {
    const before = this.#last.get(source) ?? (isNew ? {} : undefined);
    this.#last.set(source, counts);
    if (before === undefined) return;
    const hasRestarted = Object.entries(before).some(([name, value]) => (counts[name] ?? 0) < value);
    const changes = Object.entries(counts)
      .map(([name, value]) => [name, value - (hasRestarted ? 0 : (before[name] ?? 0))] as const)
      .filter(([, value]) => value > 0);
    this.#add(changes, Math.floor(now / 60_000));
  }

  /** Forgets all other sources. */
  keepOnly(sources: ReadonlySet<string>): void {
    for (const source of this.#last.keys()) if (!sources.has(source)) this.#last.delete(source);
  }

  /** The last `length` minutes, ending with the current one. Minutes without data are empty. */
  minutes(now: number, length: number): Minute[] {
    const last = Math.floor(now / 60_000);
    const known = new Map(this.#minutes.map((each) => [each.minute, each]));
    return Array.from({ length }, (_, index) => {
      const minute = last - length + 1 + index;
      return known.get(minute) ?? { minute, counts: {} };
    });
  }

  #add(changes: readonly (readonly [name: string, value: number])[], minute: number): void {
    const newest = this.#minutes.at(-1);
    // A clock that was set back adds to the newest minute, so that the list stays in order.
    const isSame = newest !== undefined && newest.minute >= minute;
    const counts: Record<string, number> = isSame ? { ...newest.counts } : {};
    let left = maxCounts - Object.keys(counts).length;
    for (const [name, value] of changes) {
      if (!(name in counts) && left-- <= 0) continue;
      counts[name] = (counts[name] ?? 0) + value;
    }
    if (isSame) this.#minutes[this.#minutes.length - 1] = { minute: newest.minute, counts };
    else this.#minutes = [...this.#minutes.filter((each) => each.minute > minute - minutesKept), { minute, counts }];
  }
}

/** The sum of one count. */
export function total(minutes: readonly Minute[], name: string): number {
  return minutes.reduce((sum, { counts }) => sum + (counts[name] ?? 0), 0);
}

/** The sums of all counts whose names begin with `start`, by the rest of the name. */
export function totals(minutes: readonly Minute[], start: string): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { counts } of minutes) {
    for (const [name, value] of Object.entries(counts)) {
      if (name.startsWith(start)) sums.set(name.slice(start.length), (sums.get(name.slice(start.length)) ?? 0) + value);
    }
  }
  return sums;
}

/** The bound in milliseconds within which 99 % of the responses ended. Undefined without responses; Infinity above all bounds. */
export function boundOf99Percent(minutes: readonly Minute[]): number | undefined {
  const bounds = [...totals(minutes, 'within ')].map(([bound, count]) => [
    bound === '+Inf' ? Number.POSITIVE_INFINITY : Number(bound),
    count,
  ]);
  const sorted = (bounds as [number, number][]).sort(([one], [other]) => one - other);
  const all = sorted.at(-1)?.[1] ?? 0;
  return all === 0 ? undefined : sorted.find(([, count]) => count >= 0.99 * all)?.[0];
}
