/** What is in force: made from what Kubernetes says as it changes, debounced, encoded once, versioned by its content. */
import { createHash } from 'node:crypto';
import type { Logger } from '../shared/log.ts';
import { assignmentOf } from './assignment.ts';
import type { EncodedResource, Encoder } from './encoding.ts';
import { type Members, Membership, type MembershipLimits } from './membership.ts';
import type { Reading, Shard } from './shard.ts';
import type { ResourceVersions } from './subscription.ts';
import { uniqueShards } from './unique-shards.ts';

/** The resources of the endpoint type as one Envoy shall see them. */
export interface World extends ResourceVersions {
  readonly resources: ReadonlyMap<string, EncodedResource>;
}

interface PublisherOptions {
  /** Of the assignment. */
  readonly name: string;
  readonly placement: 'global' | 'zone';
  readonly read: () => Reading;
  readonly encoder: Encoder;
  readonly limits: MembershipLimits;
  readonly debounceMs: number;
  readonly debounceLimitMs: number;
  readonly log: Logger;
}

/** How many of the lines about refused endpoints are logged at a time. */
const loggedLines = 20;
/** The zone of the view that has no first zone. */
const noZone = '';

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #membership: Membership;
  readonly #listeners = new Set<(changedAt: number) => void>();
  /** By zone, for what is in force; at most one a zone that has shards, and one. */
  readonly #worlds = new Map<string, World>();
  #members: Members | undefined;
  #version: string | undefined;
  #refused: readonly string[] = [];
  #debounce: NodeJS.Timeout | undefined;
  #later: NodeJS.Timeout | undefined;
  #changedAt: number | undefined;
  /** Endpoints refused since the start, each once as long as it stays refused. */
  refusals = 0;
  collapses = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#membership = new Membership(options.limits);
  }

  /** False before the first full list: nothing is answered until then. */
  get isReady(): boolean {
    return this.#members !== undefined;
  }

  get shards(): readonly Shard[] {
    return this.#members?.shards ?? [];
  }

  /** hash_keys that vanished from Kubernetes and are kept for now. */
  get held(): readonly string[] {
    return this.#members?.held ?? [];
  }

  /** The endpoints that lost to others, one line each. */
  get refused(): readonly string[] {
    return this.#refused;
  }

  /** As an Envoy of `zone` shall see it; undefined before the first full list. */
  world(zone: string): World | undefined {
    if (this.#members === undefined) return undefined;
    const { placement } = this.#options;
    const isFirst = placement === 'zone' && zone !== noZone && this.#members.shards.some((shard) => shard.zone === zone);
    const key = isFirst ? zone : noZone;
    const known = this.#worlds.get(key) ?? this.#makeWorld(this.#members.shards, key);
    this.#worlds.set(key, known);
    return known;
  }

  /** Calls `listener` after each change, with the time of the first event that made it, until the returned function is called. */
  onPublish(listener: (changedAt: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Something changed in Kubernetes; publishes soon. */
  touch(): void {
    const { debounceMs, debounceLimitMs } = this.#options;
    const now = performance.now();
    this.#changedAt ??= now;
    clearTimeout(this.#debounce);
    this.#debounce = setTimeout(() => this.publish(), Math.max(0, Math.min(debounceMs, debounceLimitMs - (now - this.#changedAt))));
  }

  /** Publishes what holds now, unless that is what is in force. */
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
    this.#members = members;
    // One millisecond more: a timer may fire a fraction too soon.
    if (members.nextAt !== undefined) this.#later = setTimeout(() => this.publish(), members.nextAt - now + 1);
    if (members.held.length > 0 && (before?.held.length ?? 0) === 0) {
      this.collapses += 1;
      log.error(
        { vanished: members.held.length, of: before?.shards.length, holdMs: this.#options.limits.collapseHoldMs },
        'most shards vanished from Kubernetes at once: they are kept for a while; is the Service selector right?',
      );
    } else if (members.held.length === 0 && (before?.held.length ?? 0) > 0) {
      log.warn({ shards: members.shards.length }, 'the shards that had vanished are back or given up');
    }
    const { version } = this.#makeWorld(members.shards, noZone);
    if (version === this.#version) return;
    this.#version = version;
    this.#worlds.clear();
    log.info(
      { version, shards: members.shards.length, healthy: members.shards.filter(({ health }) => health === 'HEALTHY').length },
      'assignment',
    );
    for (const listener of this.#listeners) listener(changedAt);
  }

  close(): void {
    clearTimeout(this.#debounce);
    clearTimeout(this.#later);
    this.#changedAt = undefined;
  }

  #makeWorld(shards: readonly Shard[], zone: string): World {
    const { name, encoder } = this.#options;
    const bytes = encoder.assignment(assignmentOf(name, shards, { ownZone: zone === noZone ? undefined : zone }));
    // A hash of the content: replicas agree without talking, and a reconnect to another one resends nothing.
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
    for (const line of fresh.slice(0, loggedLines)) this.#options.log.warn({ reason: line }, 'endpoint refused');
    if (fresh.length > loggedLines) this.#options.log.warn({ more: fresh.length - loggedLines }, 'further endpoints refused');
  }
}
