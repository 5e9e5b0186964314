/** Logs the faults of origins: the first of each origin and kind, then once a minute with the number of those between. */
import type { Logger } from '../shared/log.ts';

interface Fault {
  readonly kind: 'refused' | 'failed' | 'too-large';
  /** Must not contain a secret. */
  readonly reason: string;
}

const quietMs = 60_000;
/** A document has at most 1,000 origins, and each origin three kinds of faults. */
const maxEntries = 3_000;

export class FaultLog {
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #last = new Map<string, { readonly loggedAtMs: number; unlogged: number }>();

  constructor({ log, now }: { log: Logger; now: () => number }) {
    this.#log = log;
    this.#now = now;
  }

  report(origin: string, { kind, reason }: Fault, caller: string): void {
    const key = `${origin} ${kind}`;
    const [last, now] = [this.#last.get(key), this.#now()];
    if (last !== undefined && now - last.loggedAtMs < quietMs) {
      last.unlogged++;
      return;
    }
    if (this.#last.size >= maxEntries) this.#last.clear();
    this.#last.set(key, { loggedAtMs: now, unlogged: 0 });
    const message = kind === 'too-large' ? 'the origin has an object above maxObjectBytes' : `the origin ${kind} a request`;
    this.#log.warn({ origin, caller, reason, unlogged: last?.unlogged ?? 0 }, message);
  }
}
