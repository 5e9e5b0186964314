/** The fills of a shard: one for each key, within bounds. Remembers for a short time what the origin does not have. */
import type { Key } from '../../shared/key.ts';
import { ownCopy } from '../../shared/own-copy.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import type { OpenObject } from '../store/open-object.ts';
import type { Store } from '../store/store.ts';
import { Fill, type FillRequest, type FillResult } from './fill.ts';
import type { FillBounds, FillSlot } from './fill-bounds.ts';
import { Freshness } from './freshness.ts';
import type { OriginClient } from './origin-client.ts';

interface FillsOptions {
  readonly origin: OriginClient;
  readonly bounds: FillBounds;
  readonly store: Store;
  readonly health: FaultSink & { readonly isReadOnly: boolean };
  /** One wait of a fill for the disk. */
  readonly writeMs: number;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

type Joined =
  /** `isOwn`: the request has started the fill. */
  { readonly kind: 'fill'; readonly fill: Fill; readonly isOwn: boolean } | { readonly kind: 'miss' } | { readonly kind: 'busy' };

const missMs = 5_000;
const maxMisses = 10_000;
/** A hung disk must not keep the process from its end. */
const maxCloseMs = 5_000;

export class Fills {
  readonly origin: OriginClient;
  readonly results: Record<FillResult, number> = {
    ...{ stored: 0, 'not-kept': 0, alone: 0, miss: 0, refused: 0, failed: 0, busy: 0 },
    ...{ 'no-length': 0, 'too-large': 0, 'bad-path': 0, changed: 0, range: 0 },
  };
  /** Requests that the bounds have rejected. */
  rejected = 0;
  /** Requests that wait for a fill or read its file. */
  waiters = 0;
  receivedBytes = 0;
  readonly #options: FillsOptions;
  readonly #byKey = new Map<Key, Fill>();
  /** Fills that a removal covers. They continue for the requests that have joined them. */
  readonly #dropped = new Set<Fill>();
  readonly #freshness = new Freshness();
  /** By origin and key: when the origin may be asked again. The oldest entry is first. */
  readonly #misses = new Map<string, number>();

  constructor(options: FillsOptions) {
    this.origin = options.origin;
    this.#options = options;
  }

  get bounds(): FillBounds {
    return this.#options.bounds;
  }

  /** Joins the fill of the key, or starts it. With `isForced`, a remembered miss does not count. */
  join(request: FillRequest, isForced: boolean): Joined {
    const { key, fill: terms } = request;
    const running = this.#byKey.get(key);
    // The right of the caller is for its origin only. Another origin runs only in the moment of a new document.
    if (running !== undefined) {
      return running.request.fill.origin === terms.origin ? { kind: 'fill', fill: running, isOwn: false } : this.#reject();
    }
    if (!isForced && this.isKnownMiss(terms.origin, key)) return { kind: 'miss' };
    const slot = this.enter(request);
    if (slot === undefined) return { kind: 'busy' };
    const { origin, store, health, writeMs } = this.#options;
    const onBytes = (bytes: number) => {
      this.receivedBytes += bytes;
    };
    const fill = new Fill(request, { origin, store, health, writeMs, slot, onBytes });
    this.#byKey.set(key, fill);
    void fill.ended.then((result) => {
      if (!this.#dropped.delete(fill)) this.#byKey.delete(key);
      this.results[result] += 1;
      if (result === 'miss') this.noteMiss(terms.origin, key);
    });
    return { kind: 'fill', fill, isOwn: true };
  }

  /** The fill of a key in progress, for a caller that may use the origin. */
  find({ key, fill }: FillRequest): Fill | undefined {
    const running = this.#byKey.get(key);
    return running?.request.fill.origin === fill.origin ? running : undefined;
  }

  /** A slot for a request at the origin beside the fills. Undefined if a bound is reached. */
  enter({ namespace, fill: { isPrefetch } }: FillRequest): FillSlot | undefined {
    const slot = this.#options.bounds.enter({ namespace, isPrefetch });
    if (slot === undefined) this.rejected += 1;
    return slot;
  }

  /** Whether a stored object may be served, by the age that the terms name. */
  isFresh(object: OpenObject, namespace: string, terms: FillRequest['fill']): Promise<boolean> | true {
    const { origin, store, bounds } = this.#options;
    const enter = () => bounds.enter({ namespace, isPrefetch: terms.isPrefetch });
    return this.#freshness.isFresh(object, terms, { origin, store, enter, onGone: () => this.noteMiss(terms.origin, object.key) });
  }

  isKnownMiss(origin: string, key: Key): boolean {
    const untilMs = this.#misses.get(`${origin} ${key}`);
    return untilMs !== undefined && untilMs > this.#options.now();
  }

  noteMiss(origin: string, key: Key): void {
    const name = `${origin} ${key}`;
    this.#misses.delete(name);
    if (this.#misses.size >= maxMisses) this.#misses.delete(this.#misses.keys().next().value as string);
    this.#misses.set(ownCopy(name), this.#options.now() + missMs);
  }

  /** Call it for each PUT and DELETE: a fill that is in progress is not stored. Returns whether there is one. */
  supersede(key: Key): boolean {
    const running = this.#byKey.get(key);
    if (running !== undefined) running.isSuperseded = true;
    return running !== undefined;
  }

  /** Call it when a removal comes into force: a fill that it covers is not stored, and no later request joins it. */
  dropRemoved(isRemoved: (version: { readonly key: Key; readonly committedAt: bigint }) => boolean): void {
    for (const [key, fill] of this.#byKey) {
      if (!isRemoved({ key, committedAt: fill.begunAt })) continue;
      fill.isSuperseded = true;
      this.#byKey.delete(key);
      this.#dropped.add(fill);
    }
  }

  async close(): Promise<void> {
    const running = [...this.#byKey.values(), ...this.#dropped];
    for (const fill of running) fill.abort();
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, maxCloseMs);
    await Promise.race([Promise.all(running.map(({ ended }) => ended)), late]);
    clearTimeout(timer);
    await this.origin.close();
  }

  #reject(): Joined {
    this.rejected += 1;
    return { kind: 'busy' };
  }
}
