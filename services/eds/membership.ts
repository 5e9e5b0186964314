/** Pure: what becomes of the listed shards over time. The clock is a parameter, in milliseconds of any origin. */
import type { Shard } from './shard.ts';
import { compareText, placeOf } from './unique-shards.ts';

export interface MembershipLimits {
  /** How long a shard that does not serve stays listed as UNHEALTHY. */
  readonly unhealthyMs: number;
  /** A list that lacks more than this share of the shards is a collapse. */
  readonly collapseShare: number;
  /** How long the shards that vanished in a collapse are kept. */
  readonly collapseHoldMs: number;
}

export interface Members {
  readonly shards: readonly Shard[];
  /** hash_keys that vanished and are kept for now. */
  readonly held: readonly string[];
  /** When to ask again though nothing else changed. */
  readonly nextAt: number | undefined;
}

/** Below this many shards half of them vanishing is an ordinary change. */
const minCollapseShards = 4;

export class Membership {
  readonly #limits: MembershipLimits;
  /** What was given out last, by hash_key. */
  #inForce = new Map<string, Shard>();
  /** Since when each listed shard has not served. */
  readonly #unhealthySince = new Map<string, number>();
  #holdUntil: number | undefined;

  constructor(limits: MembershipLimits) {
    this.#limits = limits;
  }

  /** Takes what is listed now. */
  take(listed: readonly Shard[], now: number): Members {
    const expired = this.#expire(listed, now);
    const held = this.#hold(listed, now);
    const shards = [...listed.filter(({ hashKey }) => !expired.has(hashKey)), ...held].sort((a, b) => compareText(a.hashKey, b.hashKey));
    this.#inForce = new Map(shards.map((shard) => [shard.hashKey, shard]));
    const ends = [...this.#unhealthySince]
      .filter(([hashKey]) => !expired.has(hashKey))
      .map(([, since]) => since + this.#limits.unhealthyMs)
      .concat(this.#holdUntil ?? []);
    return { shards, held: held.map(({ hashKey }) => hashKey), nextAt: ends.length === 0 ? undefined : Math.min(...ends) };
  }

  /** The hash_keys that have not served for so long that they are gone. They come back as soon as they serve. */
  #expire(listed: readonly Shard[], now: number): ReadonlySet<string> {
    const unhealthy = new Set(listed.filter(({ health }) => health === 'UNHEALTHY').map(({ hashKey }) => hashKey));
    for (const hashKey of [...this.#unhealthySince.keys()]) if (!unhealthy.has(hashKey)) this.#unhealthySince.delete(hashKey);
    const expired = new Set<string>();
    for (const hashKey of unhealthy) {
      const since = this.#unhealthySince.get(hashKey) ?? now;
      this.#unhealthySince.set(hashKey, since);
      if (now - since >= this.#limits.unhealthyMs) expired.add(hashKey);
    }
    return expired;
  }

  /**
   * The shards that vanished from the list and are kept, since more than the allowed share vanished at once: a broken selector or an API server that lost its data
   * looks just so. Only vanished hash_keys are delayed, never additions, changes of address or of health.
   */
  #hold(listed: readonly Shard[], now: number): Shard[] {
    const keys = new Set(listed.map(({ hashKey }) => hashKey));
    const vanished = [...this.#inForce.values()].filter(({ hashKey }) => !keys.has(hashKey));
    const { size } = this.#inForce;
    const isCollapse = size >= minCollapseShards && vanished.length > size * this.#limits.collapseShare;
    if (!isCollapse) {
      this.#holdUntil = undefined;
      return [];
    }
    this.#holdUntil ??= now + this.#limits.collapseHoldMs;
    if (now >= this.#holdUntil) {
      this.#holdUntil = undefined;
      return [];
    }
    // An address that a listed shard has by now is no longer the vanished one's.
    const places = new Set(listed.map(placeOf));
    return vanished.filter((shard) => !places.has(placeOf(shard)));
  }
}
