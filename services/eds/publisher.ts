/** The assignment in force: made from the slices as they change, debounced, encoded once, versioned by its content. */
import { createHash } from 'node:crypto';
import type { V1EndpointSlice } from '@kubernetes/client-node';
import type { ClusterLoadAssignment } from '../../proto/generated/envoy/config/endpoint/v3/ClusterLoadAssignment.ts';
import type { Logger } from '../shared/log.ts';
import { assignmentOf, type Shard, shardsOf } from './assignment.ts';

export interface Published {
  readonly name: string;
  /** A hash of the content, so that replicas agree and a reconnect resends nothing. */
  readonly version: string;
  /** The encoded ClusterLoadAssignment. */
  readonly bytes: Buffer;
  readonly shards: readonly Shard[];
}

export interface PublisherOptions {
  readonly name: string;
  readonly identity: 'pod' | 'node';
  readonly slices: () => Iterable<V1EndpointSlice>;
  readonly encode: (assignment: ClusterLoadAssignment) => Buffer;
  readonly debounceMs: number;
  readonly debounceLimitMs: number;
  readonly log: Logger;
}

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #listeners = new Set<(published: Published) => void>();
  #current: Published | undefined;
  #timer: NodeJS.Timeout | undefined;
  #waitingSince: number | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /** Undefined before the first full list: nothing is answered until then. */
  get current(): Published | undefined {
    return this.#current;
  }

  /** Calls `listener` for each further assignment until the returned function is called, which tells whether it was the first call of it. */
  onPublish(listener: (published: Published) => void): () => boolean {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The slices changed; publishes soon. */
  touch(): void {
    const { debounceMs, debounceLimitMs } = this.#options;
    this.#waitingSince ??= performance.now();
    const waited = performance.now() - this.#waitingSince;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.publish(), Math.max(0, Math.min(debounceMs, debounceLimitMs - waited)));
  }

  /** Publishes what the slices say now, unless that is what is in force. */
  publish(): void {
    this.close();
    const { name, identity, slices, encode, log } = this.#options;
    const { shards, refused } = shardsOf(slices(), identity);
    for (const line of refused) log.warn({ reason: line }, 'endpoint refused');
    const bytes = encode(assignmentOf(name, shards));
    const version = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
    if (version === this.#current?.version) return;
    this.#current = { name, version, bytes, shards };
    log.info({ version, shards: shards.length, healthy: shards.filter(({ health }) => health === 'HEALTHY').length }, 'assignment');
    for (const listener of this.#listeners) listener(this.#current);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waitingSince = undefined;
  }
}
