/**
 * Publishes the current assignment: reads the shards after changes in Kubernetes, debounces, encodes once, and derives the version from the
 * content.
 */
import { createHash } from 'node:crypto';
import type { Logger } from '../shared/log.ts';
import type { Reading, Shard } from '../shared/shard-endpoints.ts';
import { uniqueShards } from '../shared/unique-shards.ts';
import { assignmentOf } from './assignment.ts';
import type { EncodedResource, Encoder } from './encoding.ts';
import { type Members, Membership, type MembershipLimits } from './membership.ts';
import type { ResourceVersions } from './subscription.ts';

/** The encoded resources of the endpoint type for the Envoys of one zone. */
export interface ResourceSnapshot extends ResourceVersions {
  readonly resources: ReadonlyMap<string, EncodedResource>;
}

interface PublisherOptions {
  /** Name of the assignment. */
  readonly name: string;
  readonly placement: 'global' | 'zone';
  readonly read: () => Reading;
  readonly encoder: Encoder;
  readonly limits: MembershipLimits;
  /** The last assignment of the process before this one. */
  readonly base?: readonly Shard[] | undefined;
  readonly debounceMs: number;
  readonly maxDebounceMs: number;
  readonly log: Logger;
}

/** Maximum number of refused endpoints that one update logs. */
const maxLoggedLines = 20;

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #membership: Membership;
  readonly #listeners = new Set<(changedAt: number) => void>();
  /** Encoded resources of the current version, by own zone: one for each zone with shards, and one without an own zone. */
  readonly #snapshots = new Map<string | undefined, ResourceSnapshot>();
  #members: Members | undefined;
  #version: string | undefined;
  #refused: readonly string[] = [];
  #debounce: NodeJS.Timeout | undefined;
  #later: NodeJS.Timeout | undefined;
  #changedAt: number | undefined;
  #isStale = false;
  #isWaiting = false;
  /** Endpoints refused since the start. An endpoint that stays refused counts once. */
  refusals = 0;
  collapses = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#membership = new Membership(options.limits, { base: options.base });
  }

  /** False before the first assignment. eds sends no response until then. */
  get isReady(): boolean {
    return this.#members !== undefined;
  }

  /** True while the assignment is that of the process before this one, because no full list has arrived. */
  get isStale(): boolean {
    return this.#isStale;
  }

  /** True while the first list looks like a collapse and is not sent. */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  get shards(): readonly Shard[] {
    return this.#members?.shards ?? [];
  }

  /** hash_keys of the shards that a collapse keeps as they were. */
  get held(): readonly string[] {
    return this.#members?.held ?? [];
  }

  /** The refused endpoints, one line each. */
  get refused(): readonly string[] {
    return this.#refused;
  }

  /** The resources for an Envoy of `zone` (empty = unknown); undefined before the first assignment. */
  snapshot(zone: string): ResourceSnapshot | undefined {
    if (this.#members === undefined) return undefined;
    const ownZone = this.#ownZoneOf(zone);
    const snapshot = this.#snapshots.get(ownZone) ?? this.#makeSnapshot(this.#members.shards, ownZone);
    this.#snapshots.set(ownZone, snapshot);
    return snapshot;
  }

  /** Calls `listener` after each change, with the time of the first event that caused it. The returned function ends this. */
  onPublish(listener: (changedAt: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reports a change in Kubernetes; it is published after the debounce. */
  touch(): void {
    const { debounceMs, maxDebounceMs } = this.#options;
    const now = performance.now();
    this.#changedAt ??= now;
    clearTimeout(this.#debounce);
    this.#debounce = setTimeout(() => this.publish(), Math.max(0, Math.min(debounceMs, maxDebounceMs - (now - this.#changedAt))));
  }

  /** Publishes the assignment of the process before this one, if there is one and no full list has arrived. */
  publishBase(): void {
    const { base, log } = this.#options;
    if (base === undefined || this.isReady) return;
    this.#isStale = true;
    this.#members = { shards: base, held: [], nextAt: undefined, isWaiting: false };
    log.warn({ shards: base.length }, 'no list from the Kubernetes API yet; serving the assignment of the process before this one');
    this.#announce(base, performance.now());
  }

  /** Publishes the current shards, unless they equal the published ones. */
  publish(): void {
    const changedAt = this.#changedAt ?? performance.now();
    this.close();
    const { read, log } = this.#options;
    const { candidates, problems } = read();
    const { shards: listed, refused } = uniqueShards(candidates);
    this.#report([...problems, ...refused]);
    const before = this.#members;
    const now = performance.now();
    const members = this.#membership.take(listed, now);
    // One millisecond more, because a timer may fire slightly too soon.
    if (members.nextAt !== undefined) this.#later = setTimeout(() => this.publish(), members.nextAt - now + 1);
    if (members.isWaiting && !this.#isWaiting) {
      log.error({ listed: listed.length, healthy: healthyOf(listed) }, 'the first list has too few healthy shards; not sending it yet');
    }
    this.#isWaiting = members.isWaiting;
    if (members.isWaiting) return;
    this.#members = members;
    this.#isStale = false;
    this.#noteCollapse(before, members);
    this.#announce(members.shards, changedAt);
  }

  #noteCollapse(before: Members | undefined, members: Members): void {
    const { log, limits } = this.#options;
    if (members.held.length > 0 && (before?.held.length ?? 0) === 0) {
      this.collapses += 1;
      log.error(
        { lost: members.held.length, of: before?.shards.length, holdMs: limits.collapseHoldMs },
        'most shards vanished or lost their health in Kubernetes at once; keeping them for a limited time: check the Nodes and the Service',
      );
    } else if (members.held.length === 0 && (before?.held.length ?? 0) > 0) {
      log.warn({ shards: members.shards.length }, 'the collapse is over: the lost shards returned or the time is over');
    }
  }

  #announce(shards: readonly Shard[], changedAt: number): void {
    const snapshot = this.#makeSnapshot(shards, undefined);
    const { version } = snapshot;
    if (version === this.#version) return;
    this.#version = version;
    this.#snapshots.clear();
    this.#snapshots.set(undefined, snapshot);
    this.#options.log.info({ version, shards: shards.length, healthy: healthyOf(shards) }, 'assignment');
    for (const listener of this.#listeners) listener(changedAt);
  }

  close(): void {
    clearTimeout(this.#debounce);
    clearTimeout(this.#later);
    this.#changedAt = undefined;
  }

  /** The zone whose shards an Envoy of `zone` prefers; undefined = none. */
  #ownZoneOf(zone: string): string | undefined {
    const hasOwn = this.#options.placement === 'zone' && zone !== '' && this.shards.some((shard) => shard.zone === zone);
    return hasOwn ? zone : undefined;
  }

  #makeSnapshot(shards: readonly Shard[], ownZone: string | undefined): ResourceSnapshot {
    const { name, encoder } = this.#options;
    const bytes = encoder.assignment(assignmentOf(name, shards, { ownZone }));
    // A hash of the content: replicas have equal versions without coordination, so a reconnect to another replica resends nothing.
    const version = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
    return {
      version,
      versions: new Map([[name, version]]),
      resources: new Map([[name, encoder.resource({ name, version, bytes })]]),
    };
  }

  #report(lines: readonly string[]): void {
    const known = new Set(this.#refused);
    const fresh = lines.filter((line) => !known.has(line));
    this.#refused = lines;
    this.refusals += fresh.length;
    for (const line of fresh.slice(0, maxLoggedLines)) this.#options.log.warn({ reason: line }, 'endpoint refused');
    if (fresh.length > maxLoggedLines) this.#options.log.warn({ more: fresh.length - maxLoggedLines }, 'further endpoints refused');
  }
}

function healthyOf(shards: readonly Shard[]): number {
  return shards.filter(({ health }) => health === 'HEALTHY').length;
}
