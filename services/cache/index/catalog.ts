/**
 * The state of all objects of a shard: the index with its groups, the shares of namespaces, the room, and eviction. It accesses no files.
 */
import type { Key } from '../../shared/key.ts';
import type { Digest } from '../digest.ts';
import type { Clock } from './clock.ts';
import { DatasetCounters } from './dataset-counts.ts';
import { DatasetEviction, type EvictionPolicy, LruEviction } from './eviction.ts';
import { Evictor, VictimChoice } from './evictor.ts';
import { Groups, overflowGroup, prefixOf, unknownGroup } from './groups.ts';
import { flagUnconfirmed, flagVerified, type NewRow, noRow, ObjectIndex } from './object-index.ts';
import { commonPool } from './pools.ts';
import { type Pool, Shares } from './shares.ts';
import { blocksOf, fileBlockBytes, Space, type SpaceLimits } from './space.ts';

interface CatalogOptions {
  readonly limits: SpaceLimits;
  readonly eviction: 'lru' | 'dataset';
  readonly clock: Clock;
  /** The part of the byte limit that one object may take, so that it does not evict all others. */
  readonly maxObjectShare: number;
  /**
   * Removes a row and its file. Resolves with true when the room is free, or with false if the file could not be removed. Does not reject.
   */
  readonly evict: (row: number) => Promise<boolean>;
}

/** Key and namespace in the trailer of a file. */
interface Owner {
  readonly key: Key;
  readonly namespace: string;
}

export interface RemovedRow {
  readonly row: NewRow;
  readonly bytes: number;
}

/** The size limit of one object, and what sets it. */
export interface SizeLimit {
  readonly maxBytes: number;
  readonly setBy: 'policy' | 'share' | 'shard';
}

export type UploadAdmission =
  | { readonly kind: 'admitted'; readonly pool: Pool; readonly limit: SizeLimit }
  /** The object exceeds its size limit. */
  | { readonly kind: 'too-large'; readonly limit: SizeLimit }
  /** The room is reserved for other uploads. */
  | { readonly kind: 'no-room' }
  /** Eviction protects all stored objects: the body is read and dropped, and the response has `x-kura-stored: no`. */
  | { readonly kind: 'not-kept' };

export class Catalog {
  readonly index: ObjectIndex;
  readonly groups: Groups;
  readonly shares: Shares;
  readonly space: Space;
  readonly evictor: Evictor;
  readonly datasets = new DatasetCounters();
  /** Rows that were restored because their file could not be removed. */
  restoredRows = 0;
  readonly #eviction: EvictionPolicy;
  readonly #victims: VictimChoice;
  readonly #clock: Clock;
  readonly #maxObjectShare: number;

  constructor({ limits, eviction, clock, maxObjectShare, evict }: CatalogOptions) {
    this.#clock = clock;
    this.#maxObjectShare = maxObjectShare;
    this.index = new ObjectIndex({ capacity: limits.maxFiles });
    this.groups = new Groups({
      isEmpty: (group) => this.index.groupCount(group) === 0,
      onNamed: (group, { namespace, prefix }) => {
        this.index.assign(group, this.shares.poolOf(namespace).number);
        this.datasets.name(group, prefix);
      },
      hasShare: (namespace) => this.shares.poolOf(namespace).number !== commonPool,
    });
    this.space = new Space({
      limits,
      stored: () => ({ bytes: this.storedBytes, files: this.index.count }),
      onWait: () => this.evictor.run(),
    });
    this.shares = new Shares({ index: this.index, groups: this.groups, usable: () => this.space.usable });
    this.#eviction = eviction === 'dataset' ? new DatasetEviction(this.index, this.groups) : new LruEviction(this.index);
    this.#victims = new VictimChoice({ index: this.index, shares: this.shares, eviction: this.#eviction });
    this.evictor = new Evictor({
      index: this.index,
      space: this.space,
      chooseVictim: (isShort) => this.#victims.choose(isShort, clock.tick()),
      evict,
    });
  }

  get storedBytes(): number {
    return this.index.totalBlocks * fileBlockBytes;
  }

  find({ a, b, c }: Digest): number {
    return this.index.find(a, b, c);
  }

  bytesOf(row: number): number {
    return this.index.blocks(row) * fileBlockBytes;
  }

  /** Records a read of a stored object. With `isCounted`, it is a hit of its data set. */
  read(row: number, isCounted: boolean): void {
    const tick = this.#clock.tick();
    this.#eviction.read(row, tick);
    if (isCounted) this.datasets.hit(this.index.group(row));
    this.index.touch(row, tick);
  }

  /** Records for eviction that the index has no row for a key that is read. */
  missed(key: Key, digest: Digest): void {
    this.#eviction.missed(prefixOf(key), digest, this.#clock.tick());
  }

  /** Counts a miss of its data set. */
  countMiss(key: Key): void {
    this.datasets.missed(prefixOf(key));
  }

  /** Decides on a PUT before its first byte. `length` is 0 for a chunked body; an admitted length is reserved. */
  admitUpload({ namespace, maxShare, length }: { namespace: string; maxShare: number | undefined; length: number }): UploadAdmission {
    const pool = this.shares.learn(namespace, maxShare);
    const limit = lowest(
      { maxBytes: Math.floor(this.space.limits.maxBytes * this.#maxObjectShare), setBy: 'shard' },
      { maxBytes: this.shares.limitBytes(pool), setBy: 'share' },
    );
    if (length > limit.maxBytes) return { kind: 'too-large', limit };
    if (!this.space.reserve(length)) return { kind: 'no-room' };
    if (this.#victims.hasShareFor(pool, length, this.#clock.tick()) && this.evictor.canMakeRoom(length))
      return { kind: 'admitted', pool, limit };
    this.space.release(length);
    return { kind: 'not-kept' };
  }

  /** Counts room of an upload in the share of its namespace before it is taken, or with a negative number after it was given back. */
  charge(pool: Pool, bytes: number): void {
    if (pool.number === commonPool) return;
    this.shares.charge(pool, bytes);
    if (bytes > 0 && this.shares.isOver(pool)) this.evictor.run();
  }

  /** Adds a file that this process has written. The room of its upload becomes stored room. */
  commit(digest: Digest, { key, namespace }: Owner, { blocks, takenBytes }: { blocks: number; takenBytes: number }): void {
    this.space.commit(takenBytes, 1);
    const group = this.groups.number({ namespace, prefix: prefixOf(key) });
    this.index.insert({ a: digest.a, b: digest.b, c: digest.c, blocks, tick: this.#clock.tick(), group, flags: flagVerified });
  }

  /** Whether no row is free for another file. Files of uploads in progress and files that are being freed count too. */
  get isFull(): boolean {
    return this.index.count + this.space.unstoredFiles >= this.index.capacity;
  }

  /** Removes a row and returns its fields. Its bytes count until `space.endDelete`. */
  takeOut(row: number): RemovedRow {
    const removed = { row: this.index.row(row), bytes: this.bytesOf(row) };
    this.index.remove(row);
    this.space.beginDelete(removed.bytes, 1);
    return removed;
  }

  /** Restores a row whose file could not be removed. Returns its new number. */
  putBack({ row, bytes }: RemovedRow): number {
    this.restoredRows += 1;
    this.space.cancelDelete(bytes, 1);
    return this.index.insert(row, 'oldest');
  }

  /** Removes the row of a file that another program has removed. */
  forget(digest: Digest): void {
    const row = this.find(digest);
    if (row !== noRow) this.index.remove(row);
  }

  /** Completes a row of a scan or a snapshot with the trailer of its checked file. A snapshot may have the size of an older version. */
  learnOwner(row: number, { key, namespace, fileBytes }: Owner & { readonly fileBytes: number }): void {
    if (this.index.hasFlag(row, flagUnconfirmed)) this.index.resize(row, blocksOf(fileBytes));
    this.index.setFlag(row, flagUnconfirmed, false);
    const before = this.index.group(row);
    if (before !== unknownGroup && before !== overflowGroup) return;
    // Since the row joined the overflow group, its namespace may have got a share, or a group number may be free.
    const group = this.groups.number({ namespace, prefix: prefixOf(key) });
    if (group !== before) this.index.regroup(row, group);
  }
}

export function lowest(a: SizeLimit, b: SizeLimit): SizeLimit {
  return a.maxBytes <= b.maxBytes ? a : b;
}
