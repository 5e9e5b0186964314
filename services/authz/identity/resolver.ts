/** Resolves a token to its identity: checks it locally, asks the Kubernetes API to review it, and caches the result. */
import { hash, randomBytes } from 'node:crypto';
import NodeCache from 'node-cache';
import type { Identity, Resolution, Unavailable } from './identity.ts';
import { clockSkewMs, type LocalCheck } from './jwt.ts';
import type { RunningPods } from './pods.ts';
import type { Review, ReviewAnswer } from './token-review.ts';

interface IdentityEvents {
  /** A cached identity was served: the age of its review, and whether it was served only because the API does not respond. */
  served(result: { ageMs: number; servedDuringOutage: boolean }): void;
  refusedHere(reason: string): void;
}

interface IdentityOptions {
  readonly checkLocally: (token: string) => Promise<LocalCheck>;
  readonly review: Review;
  readonly pods: Pick<RunningPods, 'healthy' | 'isRunning'>;
  /** How long a result lives without a healthy watch on its Pod, and with one. */
  readonly resultAgeMs: number;
  readonly watchedResultAgeMs: number;
  readonly outageGraceMs: number;
  readonly maxCachedTokens: number;
  readonly now: () => number;
  readonly random: () => number;
  readonly events: IdentityEvents;
}

interface Entry {
  readonly identity: Identity;
  /** When the API accepted the token. */
  reviewedAt: number;
  /** The watch listed the Pod when the API accepted the token, so it will also report the Pod's deletion. */
  readonly isWatched: boolean;
  /** 80 to 120 % of the age of a watched result. The variation spreads the reviews of tokens that were reviewed together. */
  readonly watchedAgeMs: number;
  /** When the token expires. The outage grace does not go beyond it. */
  readonly expiresAt: number;
  /** When a refresh first got no response. The outage grace starts here. */
  outageSince: number | undefined;
  /** When to ask the API again after a refresh without a response. */
  askAgainAt: number;
}

const refusalSeconds = 2;
/** During an outage, a known token causes one review in this time instead of one per request. */
const askAgainMs = 1_000;
/**
 * How long an expired result is still served while one refresh runs. This requires that the watch would report a deleted Pod, or that the
 * last refresh got no response.
 */
const staleMs = 1_000;
const jitter = 0.2;
/** A smaller step back is the correction of a good clock, and not worth new reviews of all tokens. */
const maxClockStepMs = 1_000;

const overload: Unavailable = { kind: 'unavailable', reason: 'authz has more checks than it can answer in time', isOverload: true };

/** Resolves tokens. Concurrent requests with the same token share one review. */
export class IdentityResolver {
  readonly #options: IdentityOptions;
  readonly #entries: NodeCache;
  readonly #refusals: NodeCache;
  readonly #reviews = new Map<string, Promise<Resolution>>();
  /** The latest time that the clock has shown. */
  #latest = Number.NEGATIVE_INFINITY;
  /**
   * The cache stores a keyed hash, so memory does not hold tokens, or values computable from them, for long. The hash never leaves the
   * process, so a key as prefix is sufficient. Node's HMAC would cost 20 µs of the 60 µs of a check.
   */
  readonly #hashKey = randomBytes(32).toString('base64url');

  constructor(options: IdentityOptions) {
    this.#options = options;
    const maxKeys = options.maxCachedTokens;
    this.#entries = new NodeCache({ maxKeys, useClones: false, checkperiod: 1 });
    // A separate cache, because node-cache counts expired entries as full: a flood of refusals must not displace identities.
    this.#refusals = new NodeCache({ maxKeys, useClones: false, checkperiod: 1, stdTTL: refusalSeconds });
  }

  get remembered(): number {
    return this.#entries.keys().length;
  }

  close(): void {
    this.#entries.close();
    this.#refusals.close();
  }

  /** A late request has waited so long that a token which is not remembered is refused without a check. */
  async resolve(token: string, { isLate = false }: { isLate?: boolean } = {}): Promise<Resolution> {
    const id = hash('sha256', this.#hashKey + token, 'base64url');
    this.#followClock();
    const known = this.#entries.get<Entry>(id);
    const isGone = known !== undefined && this.#isPodGone(known);
    if (isGone) this.#entries.del(id);
    const entry = isGone ? undefined : known;
    if (entry !== undefined) {
      const at = this.#options.now();
      if (at < this.#freshUntil(entry)) return this.#serve(entry);
      if (this.#mayBeStale(entry) || (this.#isInOutageGrace(entry) && at < entry.askAgainAt + staleMs)) {
        if (at >= entry.askAgainAt) void this.#reviewOnce(id, token, { entry });
        return this.#serve(entry);
      }
    }
    const refusal = this.#refusals.get<string>(id);
    if (refusal !== undefined) return { kind: 'refused', reason: refusal };
    const resolution = isLate ? overload : await this.#reviewOnce(id, token, { entry, bypassServerCache: isGone });
    return resolution.kind === 'unavailable' && entry !== undefined && this.#isInOutageGrace(entry) ? this.#serve(entry) : resolution;
  }

  /** A clock that is put back must not lengthen a result. The age of each one is unknown then, so all of them have expired. */
  #followClock(): void {
    const { now, resultAgeMs } = this.#options;
    const at = now();
    if (at >= this.#latest - maxClockStepMs) {
      this.#latest = Math.max(this.#latest, at);
      return;
    }
    this.#latest = at;
    this.#refusals.flushAll();
    for (const id of this.#entries.keys()) {
      const entry = this.#entries.get<Entry>(id);
      if (entry === undefined) continue;
      entry.reviewedAt = at - Math.max(entry.watchedAgeMs, resultAgeMs) - staleMs;
      entry.askAgainAt = 0;
      // The grace starts again.
      if (entry.outageSince !== undefined) entry.outageSince = at;
    }
  }

  #serve(entry: Entry): Resolution {
    const { now, events } = this.#options;
    const servedDuringOutage = this.#isInOutageGrace(entry);
    events.served({ ageMs: now() - entry.reviewedAt, servedDuringOutage });
    const goodUntil = Math.min(servedDuringOutage ? this.#outageGraceEnd(entry) : this.#freshUntil(entry), entry.expiresAt);
    return { kind: 'identity', identity: entry.identity, cached: true, goodUntil };
  }

  #isInOutageGrace(entry: Entry): boolean {
    return this.#options.now() < this.#outageGraceEnd(entry);
  }

  /** Starts at the first refresh that got no response, and ends with the token at the latest. */
  #outageGraceEnd({ outageSince, expiresAt }: Entry): number {
    return outageSince === undefined ? 0 : Math.min(outageSince + this.#options.outageGraceMs, expiresAt);
  }

  #mayBeStale(entry: Entry): boolean {
    const { now, pods } = this.#options;
    return pods.healthy && entry.isWatched && now() < Math.min(this.#freshUntil(entry) + staleMs, entry.expiresAt);
  }

  #isPodGone({ isWatched, identity: { namespace, pod } }: Entry): boolean {
    const { pods } = this.#options;
    return isWatched && pod !== undefined && pods.healthy && !pods.isRunning({ namespace, ...pod });
  }

  #freshUntil({ isWatched, watchedAgeMs, reviewedAt, expiresAt }: Entry): number {
    const { pods, resultAgeMs } = this.#options;
    const ageMs = isWatched && pods.healthy ? watchedAgeMs : resultAgeMs;
    return Math.min(reviewedAt + ageMs, expiresAt + clockSkewMs);
  }

  /** Does not reject unless `checkLocally` or `review` does. */
  #reviewOnce(id: string, token: string, options: { entry: Entry | undefined; bypassServerCache?: boolean }): Promise<Resolution> {
    const underWay = this.#reviews.get(id);
    if (underWay !== undefined) return underWay;
    const review = this.#review(id, token, options).finally(() => this.#reviews.delete(id));
    this.#reviews.set(id, review);
    return review;
  }

  async #review(
    id: string,
    token: string,
    { entry, bypassServerCache = false }: { entry: Entry | undefined; bypassServerCache?: boolean },
  ): Promise<Resolution> {
    const local = await this.#options.checkLocally(token);
    if (local.kind === 'refused') {
      this.#options.events.refusedHere(local.reason);
      this.#entries.del(id);
      return local;
    }
    if (local.kind === 'unavailable') return this.#unanswered(id, entry, local);
    const answer = await this.#ask(token, bypassServerCache);
    switch (answer.kind) {
      case 'unavailable':
        return this.#unanswered(id, entry, answer);
      case 'refused':
        this.#entries.del(id);
        remember(this.#refusals, id, answer.reason);
        return answer;
      case 'identity':
        return this.#remember(id, answer.identity, local.expiresAt);
      default:
        return answer satisfies never;
    }
  }

  /**
   * The API's own cache accepts a token for 10 s after its Pod was deleted, and this cache would add 10 s. Without a healthy watch, the
   * review therefore bypasses that cache. When the watch does not list the Pod, a second review bypasses it. The remaining cases are
   * finished Pods, and Pods newer than the last event of the watch.
   */
  async #ask(token: string, isGone: boolean): Promise<ReviewAnswer> {
    const { review, pods } = this.#options;
    const bypassServerCache = isGone || !pods.healthy;
    const answer = await review(token, { bypassServerCache });
    if (answer.kind !== 'identity' || bypassServerCache) return answer;
    const { namespace, pod } = answer.identity;
    if (pod === undefined || pods.isRunning({ namespace, ...pod })) return answer;
    return await review(token, { bypassServerCache: true });
  }

  #remember(id: string, identity: Identity, expiresAt: number): Resolution {
    const { now, random, pods, resultAgeMs, watchedResultAgeMs, outageGraceMs } = this.#options;
    const { namespace, pod } = identity;
    const entry: Entry = {
      identity,
      reviewedAt: now(),
      isWatched: pod !== undefined && pods.healthy && pods.isRunning({ namespace, ...pod }),
      watchedAgeMs: watchedResultAgeMs * (1 - jitter + 2 * jitter * random()),
      expiresAt,
      outageSince: undefined,
      askAgainAt: 0,
    };
    remember(this.#entries, id, entry, (Math.max(resultAgeMs, entry.watchedAgeMs) + outageGraceMs + askAgainMs) / 1000);
    return { kind: 'identity', identity, cached: false, goodUntil: Math.min(this.#freshUntil(entry), expiresAt) };
  }

  /** A refresh without a response says nothing about the token, so a known identity stays valid for the outage grace. */
  #unanswered(id: string, entry: Entry | undefined, answer: Extract<ReviewAnswer, { kind: 'unavailable' }>): Resolution {
    const { now, outageGraceMs } = this.#options;
    if (entry === undefined) return answer;
    entry.askAgainAt = now() + askAgainMs;
    if (entry.outageSince === undefined) {
      entry.outageSince = now();
      this.#entries.ttl(id, (outageGraceMs + askAgainMs) / 1000);
    }
    return answer;
  }
}

/** node-cache throws when it is full. That is no error here: the next request asks the API again. */
function remember<T>(cache: NodeCache, id: string, value: T, ttlSeconds?: number): void {
  try {
    if (ttlSeconds === undefined) cache.set(id, value);
    else cache.set(id, value, ttlSeconds);
  } catch (error) {
    if ((error as { errorcode?: string }).errorcode !== 'ECACHEFULL') throw error;
  }
}
