/** What a shard knows of its objects: the index with its groups, the shares of namespaces, the room, and which object is evicted next. Knows no file. */
import type { Key } from '../../shared/key.ts';
import type { Digest } from '../digest.ts';
import type { Clock } from './clock.ts';
import { DatasetEviction, type EvictionPolicy, LruEviction } from './eviction.ts';
import { Evictor, VictimChoice } from './evictor.ts';
import { Groups, prefixOf, unknownGroup } from './groups.ts';
import { flagUnconfirmed, flagVerified, noRow, ObjectIndex } from './object-index.ts';
import { commonPool } from './pools.ts';
import { type Pool, Shares } from './shares.ts';
import { fileBlockBytes, Space, type SpaceLimits } from './space.ts';

interface CatalogOptions {
  readonly limits: SpaceLimits;
  readonly eviction: 'lru' | 'dataset';
  readonly clock: Clock;
  /** Removes the file of a row and takes the row out; resolves when the room is free again. Does not reject. */
  readonly evict: (row: number) => Promise<void>;
}

/** Whose object it is, as its file says. */
interface Owner {
  readonly key: Key;
  readonly namespace: string;
}

export type UploadAdmission =
  /** `maxBytes` is the most that the share of its namespace gives to one object. */
  | { readonly kind: 'admitted'; readonly pool: Pool; readonly maxBytes: number }
  /** Larger than this shard could ever hold. */
  | { readonly kind: 'too-large' }
  /** The room is reserved for others. */
  | { readonly kind: 'no-room' }
  /** Eviction protects every object that would have to go: the body is read and dropped, and the response has `x-kura-stored: no`. */
  | { readonly kind: 'not-kept' };

export class Catalog {
  readonly index: ObjectIndex;
  readonly groups: Groups;
  readonly shares: Shares;
  readonly space: Space;
  readonly evictor: Evictor;
  readonly #eviction: EvictionPolicy;
  readonly #victims: VictimChoice;
  readonly #clock: Clock;

  constructor({ limits, eviction, clock, evict }: CatalogOptions) {
    this.#clock = clock;
    this.index = new ObjectIndex({ capacity: limits.maxFiles });
    this.groups = new Groups(
      (group) => this.index.groupCount(group) === 0,
      (group, { namespace }) => this.index.assign(group, this.shares.poolOf(namespace).number),
    );
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

  /** Records a read of a stored object. */
  read(row: number): void {
    const tick = this.#clock.tick();
    this.#eviction.read(row, tick);
    this.index.touch(row, tick);
  }

  /** Records a read of an object that is not stored. */
  missed(key: Key, digest: Digest): void {
    this.#eviction.missed(prefixOf(key), digest, this.#clock.tick());
  }

  /** Decides on a PUT before its first byte. `length` is 0 for a chunked body; an admitted length is reserved. */
  admitUpload({ namespace, maxShare, length }: { namespace: string; maxShare: number | undefined; length: number }): UploadAdmission {
    const pool = this.shares.learn(namespace, maxShare);
    const maxBytes = this.shares.limitBytes(pool);
    if (length > Math.min(this.space.limits.maxBytes / 2, maxBytes)) return { kind: 'too-large' };
    if (!this.space.reserve(length)) return { kind: 'no-room' };
    if (this.#victims.hasShareFor(pool, length, this.#clock.tick()) && this.evictor.canMakeRoom(length))
      return { kind: 'admitted', pool, maxBytes };
    this.space.release(length);
    return { kind: 'not-kept' };
  }

  /** Counts room of an upload in the share of its namespace before it is taken, or with a negative number after it was given back. */
  charge(pool: Pool, bytes: number): void {
    if (pool.number === commonPool) return;
    pool.uploadingBytes += bytes;
    if (bytes > 0 && this.shares.isOver(pool)) this.evictor.run();
  }

  /** Adds a file that this process wrote, whose room was an upload's. */
  commit(digest: Digest, { key, namespace }: Owner, { blocks, takenBytes }: { blocks: number; takenBytes: number }): void {
    this.space.commit(takenBytes, 1);
    const group = this.groups.number({ namespace, prefix: prefixOf(key) });
    this.index.insert({ a: digest.a, b: digest.b, c: digest.c, blocks, tick: this.#clock.tick(), group, flags: flagVerified });
  }

  /** Takes a row out and returns its bytes, which count until `space.endDelete`. */
  takeOut(row: number): number {
    const bytes = this.bytesOf(row);
    this.index.remove(row);
    this.space.beginDelete(bytes, 1);
    return bytes;
  }

  /** Another program removed the file that a row stands for. */
  forget(digest: Digest): void {
    const row = this.find(digest);
    if (row !== noRow) this.index.remove(row);
  }

  /** A whole, checked file completes a row that a scan or a snapshot made. */
  learnOwner(row: number, { key, namespace }: Owner): void {
    this.index.setFlag(row, flagUnconfirmed, false);
    if (this.index.group(row) !== unknownGroup) return;
    this.index.regroup(row, this.groups.number({ namespace, prefix: prefixOf(key) }));
  }
}
