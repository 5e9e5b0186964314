/** Compares stored objects with their origin, at most once within the age that the terms name. */
import type { Key } from '../../shared/key.ts';
import { ownCopy } from '../../shared/own-copy.ts';
import { within } from '../disk/deadline.ts';
import type { Store } from '../store/store.ts';
import type { FillSlot } from './fill-bounds.ts';
import type { OriginClient } from './origin-client.ts';

/** The part of an open object that is compared. */
interface StoredVersion {
  readonly key: Key;
  readonly tag: string;
  readonly length: number;
  readonly origin: string;
  readonly originVersion: string;
  readonly modifiedSeconds: number;
}

interface RevalidateTerms {
  readonly origin: string;
  readonly revalidateSeconds: number | undefined;
  readonly callerHeader: string;
  readonly termsHeader: string;
}

interface FreshnessOptions {
  readonly origin: OriginClient;
  readonly store: Store;
  /** Undefined if a bound is reached. */
  readonly enter: () => FillSlot | undefined;
  readonly onGone: () => void;
}

/** An entry is a key and a number. Without its entry an object is compared again. */
const maxEntries = 65_536;
const maxHeadMs = 5_000;
/** With the time for a turn, and for the removal of an object. */
const maxCheckMs = 8_000;
/** After a failure of the origin, the stored object is served and compared again after this time. */
const retryMs = 5_000;

export class Freshness {
  /** When an object may be compared again, in milliseconds since 1970. The oldest entry is first. */
  readonly #nextMs = new Map<Key, number>();
  readonly #checks = new Map<Key, Promise<boolean>>();

  /**
   * Whether the stored object may be served. Objects of clients are not compared. An object that the origin has no more is removed, and
   * `onGone` is called. Does not reject.
   */
  isFresh(object: StoredVersion, terms: RevalidateTerms, options: FreshnessOptions): Promise<boolean> | true {
    const { key, origin, modifiedSeconds } = object;
    if (terms.revalidateSeconds === undefined || origin !== terms.origin) return true;
    const ageMs = terms.revalidateSeconds * 1000;
    const dueMs = Math.max(modifiedSeconds * 1000 + ageMs, this.#nextMs.get(key) ?? 0);
    if (Date.now() < dueMs) return true;
    const running = this.#checks.get(key);
    if (running !== undefined) return running;
    // The request holds the object open meanwhile. After the limit, and after a fault, it gets the stored object.
    const check = within(maxCheckMs, this.#compare(object, terms, options, ageMs))
      .catch(() => true)
      .finally(() => this.#checks.delete(key));
    this.#checks.set(key, check);
    return check;
  }

  async #compare(object: StoredVersion, terms: RevalidateTerms, options: FreshnessOptions, ageMs: number): Promise<boolean> {
    const { key, tag, length, originVersion } = object;
    const slot = options.enter();
    if (slot === undefined) return this.#note(key, retryMs);
    const found = await options.origin.open({ method: 'HEAD', key, fill: terms, limitMs: maxHeadMs });
    slot.leave();
    if (found.kind === 'miss') {
      await options.store.remove(key, (current) => current?.tag === tag).catch(() => false);
      options.onGone();
      return false;
    }
    if (found.kind !== 'object') return this.#note(key, retryMs);
    found.body.resume();
    // Without a version at the origin, nothing proves that the bytes are the same.
    const isSame = originVersion !== '' && found.version === originVersion && (found.length ?? length) === length;
    return isSame && this.#note(key, ageMs);
  }

  #note(key: Key, ms: number): true {
    this.#nextMs.delete(key);
    if (this.#nextMs.size >= maxEntries) this.#nextMs.delete(this.#nextMs.keys().next().value as Key);
    this.#nextMs.set(ownCopy(key), Date.now() + ms);
    return true;
  }
}
