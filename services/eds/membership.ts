/**
 * Pure: decides over time which listed shards belong to the assignment, and with which health. The clock is a parameter, in milliseconds of
 * any origin. Envoy checks every shard itself, so a shard that is listed as healthy and is dead costs its keys some seconds.
 */
import type { Shard } from '../shared/shard-endpoints.ts';
import { compareText, placeOf } from '../shared/unique-shards.ts';

export interface MembershipLimits {
  /** How long a shard that does not serve stays listed, from the loss of its health. */
  readonly unhealthyMs: number;
  /** How long a shard that lost its health stays listed as it was. Losses within this time count together. */
  readonly lossDelayMs: number;
  /** When more than this share of the healthy shards is lost, that is a collapse. */
  readonly collapseShare: number;
  /** How long the shards that vanished in a collapse stay listed as they were. Those that Kubernetes still lists stay until it is over. */
  readonly collapseHoldMs: number;
  /** After a time in which no shard served: how long the first ones wait until half of the listed shards serve. */
  readonly returnWaitMs: number;
}

export interface Members {
  readonly shards: readonly Shard[];
  /** hash_keys of the shards that a collapse keeps as they were. */
  readonly held: readonly string[];
  /** When to call `take` again although nothing else has changed. */
  readonly nextAt: number | undefined;
  /** This list is the first one and looks like a collapse. Clients must not get it; they keep what another replica sent them. */
  readonly isWaiting: boolean;
}

interface Loss {
  /** The shard as it was listed before. */
  readonly was: Shard;
  readonly at: number;
}

/** With fewer shards than this, it is normal that half of them vanish. */
const minVanishingShards = 4;

export class Membership {
  readonly #limits: MembershipLimits;
  /** The last result, by hash_key; undefined before the first one. */
  #inForce: ReadonlyMap<string, Shard> | undefined;
  /** Shards that were healthy in a result and are gone or no longer serve, until they are removed. */
  readonly #losses = new Map<string, Loss>();
  /** Since when each unhealthy shard has not served. */
  readonly #unhealthySince = new Map<string, number>();
  #holdUntil: number | undefined;
  #startedAt: number | undefined;
  /** According to Kubernetes no shard serves, or too few have returned since. */
  #isOut: boolean;
  #firstBackAt: number | undefined;

  /** `base` is the result of an earlier process. */
  constructor(limits: MembershipLimits, { base }: { base?: readonly Shard[] | undefined } = {}) {
    this.#limits = limits;
    this.#inForce = base === undefined ? undefined : byKey(base);
    this.#isOut = base !== undefined && !base.some(isHealthy);
  }

  /** Takes the current list of shards. */
  take(listed: readonly Shard[], now: number): Members {
    this.#startedAt ??= now;
    this.#noteReturn(listed, now);
    if (this.#inForce === undefined) {
      const until = this.#waitsUntil(listed, now);
      if (until !== undefined) return { shards: [], held: [], nextAt: Number.isFinite(until) ? until : undefined, isWaiting: true };
      this.#isOut = !listed.some(isHealthy);
    }
    const current = byKey(listed);
    this.#noteLosses(current, now);
    const held = this.#hold(current, now);
    const shards = [...this.#inList(listed, held, now), ...held.values()].sort((a, b) => compareText(a.hashKey, b.hashKey));
    this.#inForce = byKey(shards);
    return { shards, held: [...held.keys()].sort(compareText), nextAt: this.#nextAt(now), isWaiting: false };
  }

  /** After an outage, notes when the first shard serves, and ends the outage when enough serve. */
  #noteReturn(listed: readonly Shard[], now: number): void {
    const serving = listed.filter(isHealthy).length;
    const expected = listed.filter(({ health }) => health !== 'DRAINING').length;
    if (serving === 0) {
      this.#isOut = true;
      this.#firstBackAt = undefined;
      return;
    }
    this.#firstBackAt ??= now;
    if (serving * 2 >= expected || now >= this.#firstBackAt + this.#limits.returnWaitMs) this.#isOut = false;
  }

  /** Until when a first list may not be the answer; undefined when it may. Without a base, a collapse cannot be recognised otherwise. */
  #waitsUntil(listed: readonly Shard[], now: number): number | undefined {
    const { collapseShare, collapseHoldMs, returnWaitMs } = this.#limits;
    const serving = listed.filter(isHealthy).length;
    // Nothing is gained by a list without any shard that serves.
    if (collapseShare < 1 && listed.length > 0 && serving === 0) return Number.POSITIVE_INFINITY;
    if (collapseShare >= 1 || serving * 2 >= Math.max(1, listed.filter(({ health }) => health !== 'DRAINING').length)) return undefined;
    const end = (this.#startedAt ?? now) + collapseHoldMs;
    const until = this.#firstBackAt === undefined ? end : Math.min(end, this.#firstBackAt + returnWaitMs);
    return now < until ? until : undefined;
  }

  #noteLosses(current: ReadonlyMap<string, Shard>, now: number): void {
    for (const [hashKey, shard] of this.#inForce ?? []) {
      if (isHealthy(shard) && !this.#losses.has(hashKey)) this.#losses.set(hashKey, { was: shard, at: now });
    }
    for (const [hashKey, { was }] of this.#losses) if (!isLost(was, current.get(hashKey))) this.#losses.delete(hashKey);
  }

  /**
   * The shards that are kept as they were, because more than the allowed share was lost. A wrong selector, an API server that lost its data,
   * or kubelets that cannot reach the API have this effect. Everything else applies immediately: additions, addresses and terminations.
   */
  #hold(current: ReadonlyMap<string, Shard>, now: number): ReadonlyMap<string, Shard> {
    const healthy = [...(this.#inForce?.values() ?? [])].filter((shard) => isHealthy(shard) && isHealthy(current.get(shard.hashKey)));
    const until = this.#holdUntil ?? now + this.#limits.collapseHoldMs;
    const keepsVanished = this.#losses.size + healthy.length >= minVanishingShards && now < until;
    if (!keepsVanished) this.#forget((hashKey) => !current.has(hashKey));
    if (this.#losses.size <= (this.#losses.size + healthy.length) * this.#limits.collapseShare) {
      this.#forget((hashKey) => !current.has(hashKey));
      if (this.#holdUntil !== undefined) this.#restartLosses(now);
      this.#holdUntil = undefined;
      return new Map();
    }
    this.#holdUntil = until;
    // The address of a vanished shard may belong to a listed shard now, or to a shard that vanished later.
    const owners = new Map([...current.values()].map((shard) => [placeOf(shard), shard.hashKey]));
    const held = new Map<string, Shard>();
    for (const [hashKey, { was }] of this.#losses) {
      const owner = owners.get(placeOf(was)) ?? hashKey;
      owners.set(placeOf(was), owner);
      if (owner === hashKey) held.set(hashKey, { ...(current.get(hashKey) ?? was), health: was.health });
    }
    return held;
  }

  /** What remains of a collapse counts as lost now, because these shards are probably about to return. */
  #restartLosses(now: number): void {
    for (const [hashKey, { was }] of this.#losses) {
      this.#losses.set(hashKey, { was, at: now });
      this.#unhealthySince.set(hashKey, now);
    }
  }

  /** The listed shards that are not held: without those that have not served for too long. They return when they serve again. */
  #inList(listed: readonly Shard[], held: ReadonlyMap<string, Shard>, now: number): Shard[] {
    const unhealthy = new Set(listed.filter(({ health }) => health === 'UNHEALTHY').map(({ hashKey }) => hashKey));
    for (const hashKey of [...this.#unhealthySince.keys()]) if (!unhealthy.has(hashKey)) this.#unhealthySince.delete(hashKey);
    const shards: Shard[] = [];
    for (const shard of listed) {
      const { hashKey } = shard;
      if (unhealthy.has(hashKey)) this.#unhealthySince.set(hashKey, this.#unhealthySince.get(hashKey) ?? now);
      if (held.has(hashKey)) continue;
      const loss = this.#losses.get(hashKey);
      if (loss !== undefined && now < loss.at + this.#limits.lossDelayMs) shards.push({ ...shard, health: loss.was.health });
      else if (!this.#isExpired(hashKey, now)) shards.push(this.#isTooEarly(shard) ? { ...shard, health: 'UNHEALTHY' } : shard);
    }
    this.#forget((hashKey) => !held.has(hashKey) && this.#isExpired(hashKey, now));
    return shards;
  }

  #isExpired(hashKey: string, now: number): boolean {
    return now - (this.#unhealthySince.get(hashKey) ?? now) >= this.#limits.unhealthyMs;
  }

  /** It would be the only target of all keys: misses for all, and writes that evict its own objects. */
  #isTooEarly(shard: Shard): boolean {
    if (!this.#isOut || !isHealthy(shard)) return false;
    const before = this.#inForce?.get(shard.hashKey);
    return !(isHealthy(before) && placeOf(before) === placeOf(shard));
  }

  #forget(condition: (hashKey: string) => boolean): void {
    for (const hashKey of [...this.#losses.keys()]) if (condition(hashKey)) this.#losses.delete(hashKey);
  }

  #nextAt(now: number): number | undefined {
    const { unhealthyMs, lossDelayMs, returnWaitMs } = this.#limits;
    const times = [
      ...[...this.#unhealthySince.values()].map((since) => since + unhealthyMs),
      ...(this.#holdUntil === undefined ? [...this.#losses.values()].map(({ at }) => at + lossDelayMs) : [this.#holdUntil]),
      ...(this.#isOut && this.#firstBackAt !== undefined ? [this.#firstBackAt + returnWaitMs] : []),
    ].filter((at) => at > now);
    return times.length === 0 ? undefined : Math.min(...times);
  }
}

function byKey(shards: readonly Shard[]): ReadonlyMap<string, Shard> {
  return new Map(shards.map((shard) => [shard.hashKey, shard]));
}

function isHealthy(shard: Shard | undefined): shard is Shard {
  return shard?.health === 'HEALTHY';
}

/** Gone, or listed at the same address without serving. A shard at another address is a new Pod, and a draining shard has announced its end. */
function isLost(was: Shard, is: Shard | undefined): boolean {
  return is === undefined || (is.health === 'UNHEALTHY' && placeOf(is) === placeOf(was));
}
