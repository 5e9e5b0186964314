/** From a token to the identity behind it: checked here, reviewed by the Kubernetes API, remembered. */
import { hash, randomBytes } from 'node:crypto';
import NodeCache from 'node-cache';
import type { Identity, Resolution } from './identity.ts';
import { clockSkewMs, type LocalCheck } from './jwt.ts';
import type { RunningPods } from './pods.ts';
import type { Review, ReviewAnswer } from './token-review.ts';

interface IdentityEvents {
  /** A known identity was served: how old its review is, and whether only because the API does not answer. */
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
  /** When the API said yes. */
  readonly reviewedAt: number;
  /** The Pod was seen running by the watch when the API said yes: its going will be seen too. */
  readonly isWatched: boolean;
  /** 80 to 120 % of the age of a watched result, so that those reviewed together do not expire together. */
  readonly watchedAgeMs: number;
  /** The token's own end; beyond it the API's silence is no reason to go on. */
  readonly expiresAt: number;
  /** When a refresh first got no answer: the identity goes on for a bounded time from here. */
  outageSince: number | undefined;
  /** Where a refresh got no answer: when the API is asked again. */
  askAgainAt: number;
}

const refusalSeconds = 2;
/** While the API does not answer, a known token asks again this often and not with every request. */
const askAgainMs = 1_000;
/** How long a result past its time is still served while one refresh runs: where a Pod that went would have been seen, or the last refresh got no answer. */
const staleMs = 1_000;
const jitter = 0.2;

/** Resolves tokens; those asked for at the same time, by one review. */
export class IdentityResolver {
  readonly #options: IdentityOptions;
  readonly #entries: NodeCache;
  readonly #refusals: NodeCache;
  readonly #reviews = new Map<string, Promise<Resolution>>();
  /**
   * Tokens are remembered by a keyed hash: neither they nor anything computable from them is in memory for long. The hash leaves the process nowhere, so the key
   * in front is enough; Node's HMAC would cost 20 µs of a check's 60.
   */
  readonly #hashKey = randomBytes(32).toString('base64url');

  constructor(options: IdentityOptions) {
    this.#options = options;
    const maxKeys = options.maxCachedTokens;
    this.#entries = new NodeCache({ maxKeys, useClones: false, checkperiod: 1 });
    // Of their own, since node-cache counts expired entries as full: a flood of refusals must not push out or keep out identities.
    this.#refusals = new NodeCache({ maxKeys, useClones: false, checkperiod: 1, stdTTL: refusalSeconds });
  }

  get remembered(): number {
    return this.#entries.keys().length;
  }

  close(): void {
    this.#entries.close();
    this.#refusals.close();
  }

  async resolve(token: string): Promise<Resolution> {
    const id = hash('sha256', this.#hashKey + token, 'base64url');
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
    const resolution = await this.#reviewOnce(id, token, { entry, bypassServerCache: isGone });
    return resolution.kind === 'unavailable' && entry !== undefined && this.#isInOutageGrace(entry) ? this.#serve(entry) : resolution;
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

  /** Counted from the first refresh that got no answer, and never past the token's own end. */
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

  /** Never rejects as long as `checkLocally` and `review` do not. */
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
   * The API's own cache says yes for 10 s after a Pod has gone, to which ours would add its own 10 s. So without a watch that cache is
   * passed by; and where the watch does not hold the Pod, the yes is asked for again past it: what remains are Pods newer than the watch's last event and
   * finished ones.
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

  /** A refresh got no answer, which says nothing of the token: an identity that is known goes on. */
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

/** A full cache is not an error: what does not fit is asked for again. node-cache throws instead. */
function remember<T>(cache: NodeCache, id: string, value: T, ttlSeconds?: number): void {
  try {
    if (ttlSeconds === undefined) cache.set(id, value);
    else cache.set(id, value, ttlSeconds);
  } catch (error) {
    if ((error as { errorcode?: string }).errorcode !== 'ECACHEFULL') throw error;
  }
}
