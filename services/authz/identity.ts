/** From a token to the identity behind it: TokenReview, remembered. */
import { createHmac, randomBytes } from 'node:crypto';
import NodeCache from 'node-cache';
import type { ReviewAnswer } from './token-review.ts';

export interface Identity {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod: { readonly name: string; readonly uid: string };
}

export type Resolution =
  | { readonly kind: 'identity'; readonly identity: Identity; readonly cached: boolean }
  /** The API has said no. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** Nobody knows: the API did not answer. */
  | { readonly kind: 'unavailable'; readonly reason: string };

export interface IdentityOptions {
  readonly review: (token: string) => Promise<ReviewAnswer>;
  readonly resultAgeMs: number;
  readonly withoutApiMs: number;
  readonly cachedTokens: number;
  readonly reviewsInFlight: number;
  readonly now: () => number;
}

interface Entry {
  readonly identity: Identity;
  /** When the API said yes. */
  readonly reviewedAt: number;
  /** Until when it need not be asked again. */
  freshUntil: number;
  /** The token's own end; beyond it the API's silence is no reason to go on. */
  readonly expiresAt: number;
}

const refusalSeconds = 2;
/** While the API does not answer, a known token asks again this often and not with every request. */
const askAgainMs = 1_000;

/** Resolves tokens; those asked for at the same time, by one review. */
export class IdentityResolver {
  readonly #options: IdentityOptions;
  readonly #entries: NodeCache;
  readonly #refusals: NodeCache;
  readonly #reviews = new Map<string, Promise<Resolution>>();
  /** Tokens are remembered by a keyed hash: neither they nor anything computable from them is in memory for long. */
  readonly #hashKey = randomBytes(32);

  constructor(options: IdentityOptions) {
    this.#options = options;
    const maxKeys = options.cachedTokens;
    this.#entries = new NodeCache({ maxKeys, useClones: false, checkperiod: 1 });
    this.#refusals = new NodeCache({ maxKeys, useClones: false, checkperiod: 1, stdTTL: refusalSeconds });
  }

  get reviewsInFlight(): number {
    return this.#reviews.size;
  }

  close(): void {
    this.#entries.close();
    this.#refusals.close();
  }

  async resolve(token: string): Promise<Resolution> {
    const { now } = this.#options;
    const id = createHmac('sha256', this.#hashKey).update(token).digest('base64url');
    const entry = this.#entries.get<Entry>(id);
    if (entry !== undefined && now() < entry.freshUntil) return { kind: 'identity', identity: entry.identity, cached: true };
    const refusal = this.#refusals.get<string>(id);
    if (refusal !== undefined) return { kind: 'refused', reason: refusal };
    const resolution = await this.#reviewOnce(id, token);
    if (resolution.kind !== 'unavailable' || entry === undefined) return resolution;
    if (now() >= Math.min(entry.expiresAt, entry.reviewedAt + this.#options.withoutApiMs)) return resolution;
    entry.freshUntil = now() + askAgainMs;
    return { kind: 'identity', identity: entry.identity, cached: true };
  }

  #reviewOnce(id: string, token: string): Promise<Resolution> {
    const underWay = this.#reviews.get(id);
    if (underWay !== undefined) return underWay;
    if (this.#reviews.size >= this.#options.reviewsInFlight) {
      return Promise.resolve({ kind: 'unavailable', reason: 'too many reviews under way' });
    }
    const review = this.#review(id, token).finally(() => this.#reviews.delete(id));
    this.#reviews.set(id, review);
    return review;
  }

  async #review(id: string, token: string): Promise<Resolution> {
    const { now, resultAgeMs, withoutApiMs } = this.#options;
    const answer = await this.#options.review(token);
    switch (answer.kind) {
      case 'unavailable':
        return answer;
      case 'refused':
        this.#entries.del(id);
        remember(this.#refusals, id, answer.reason);
        return answer;
      case 'identity': {
        const entry: Entry = { identity: answer.identity, reviewedAt: now(), freshUntil: now() + resultAgeMs, expiresAt: answer.expiresAt };
        remember(this.#entries, id, entry, (resultAgeMs + withoutApiMs) / 1000);
        return { kind: 'identity', identity: answer.identity, cached: false };
      }
      default:
        return answer satisfies never;
    }
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
