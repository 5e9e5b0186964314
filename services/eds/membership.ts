/** Pure: decides over time which listed shards belong to the assignment. The clock is a parameter, in milliseconds of any origin. */
import type { Shard } from './shard.ts';
import { compareText, placeOf } from './unique-shards.ts';

export interface MembershipLimits {
  /** How long a shard that does not serve stays listed as UNHEALTHY. */
  readonly unhealthyMs: number;
  /** When more than this share of the shards is missing from a list, that is a collapse. */
  readonly collapseShare: number;
  /** How long the shards that vanished in a collapse are kept. */
  readonly collapseHoldMs: number;
}

export interface Members {
  readonly shards: readonly Shard[];
  /** hash_keys of the vanished shards that are kept. */
  readonly held: readonly string[];
  /** When to call `take` again although nothing else has changed. */
  readonly nextAt: number | undefined;
}

/** With fewer shards than this, it is normal that half of them vanish. */
const minCollapseShards = 4;

export class Membership {
  readonly #limits: MembershipLimits;
  /** The last result, by hash_key. */
  #inForce = new Map<string, Shard>();
  /** Since when each unhealthy shard has not served. */
  readonly #unhealthySince = new Map<string, number>();
  #holdUntil: number | undefined;

  constructor(limits: MembershipLimits) {
    this.#limits = limits;
  }

  /** Takes the current list of shards. */
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

  /** The hash_keys of shards that have been unhealthy for longer than the limit. They return when they serve again. */
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
   * The vanished shards that are kept, because more than the allowed share vanished at once. A wrong selector, or an API server that lost
   * its data, has this effect. Only the removal of shards is delayed: additions, and changes of address or health, apply immediately.
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
    // The address of a vanished shard may belong to a listed shard now.
    const places = new Set(listed.map(placeOf));
    return vanished.filter((shard) => !places.has(placeOf(shard)));
  }
}
