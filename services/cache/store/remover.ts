/** Removes and evicts objects: first the row, then the file, then the room, which counts until the last reader has ended. */
import type { Key } from '../../shared/key.ts';
import type { Counters } from '../counters.ts';
import { type Digest, digestOf } from '../digest.ts';
import { fileName, objectPath } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';
import type { RemovedRow } from '../index/catalog.ts';
import { tickMs } from '../index/clock.ts';
import { noRow } from '../index/object-index.ts';
import { type Condition, requireCondition } from './condition.ts';
import { freeRoom, holdLarge } from './free-file.ts';
import type { KeyedMutex } from './keyed-mutex.ts';
import type { OpenObject } from './open-object.ts';
import type { Opener, StoreParts } from './opener.ts';

/** The unlink of a larger file would hold up the small files that the same thread writes. */
const maxSmallBytes = 1024 * 1024;

export interface RemoverOptions extends StoreParts {
  readonly mutex: KeyedMutex;
  readonly opener: Opener;
  readonly counters: Counters;
}

/** A version without a row. Its file may still exist. */
type RemovedVersion = RemovedRow & { readonly object: OpenObject | undefined };

interface Unlinked {
  /** Whether there was a file. */
  readonly isGone: boolean;
  /** The descriptor with which freeRoom empties a large file. */
  readonly held: number | undefined;
}

interface Removed extends Unlinked {
  readonly version: RemovedVersion | undefined;
}

export class Remover {
  readonly #options: RemoverOptions;

  constructor(options: RemoverOptions) {
    this.#options = options;
  }

  /** Resolves with whether the object existed. If it rejects with ConditionError or a disk fault, the stored object is unchanged. */
  async remove(key: Key, condition?: Condition): Promise<boolean> {
    const { catalog, mutex, opener, secret } = this.#options;
    const digest = digestOf(secret, key);
    const name = fileName(digest);
    if (condition !== undefined) return await this.#removeIf(key, digest, condition);
    const row = catalog.find(digest);
    if (row === noRow && catalog.space.isCounted) {
      await mutex.settled(name);
      return false;
    }
    // #removeFile takes the row out synchronously. It finds the open version by its row, so `forget` comes after it.
    const removed = this.#removeFile(digest, row, { awaitsRoom: false });
    opener.forget(key, name);
    return removed;
  }

  /** Removes the file of a digest that has no row. Resolves with false if the disk failed. Does not reject. */
  async removeUnknown(digest: Digest): Promise<boolean> {
    try {
      await this.#removeFile(digest, noRow, { awaitsRoom: false });
      return true;
    } catch (error) {
      this.#options.health.note(error, 'write');
      return false;
    }
  }

  /** Removes the file of a row to make room. Resolves with false if the disk failed. Does not reject. */
  async evict(row: number): Promise<boolean> {
    const { clock, counters, health, catalog } = this.#options;
    const bytes = catalog.bytesOf(row);
    const group = catalog.index.group(row);
    const idleSeconds = ((clock.tick() - catalog.index.tick(row)) * tickMs) / 1000;
    try {
      await this.#removeFile(catalog.index.digest(row), row, { awaitsRoom: true });
    } catch (error) {
      health.note(error, 'write');
      return false;
    }
    counters.evictedObjects += 1;
    counters.evictedBytes += bytes;
    catalog.datasets.evicted(group, bytes);
    counters.lastVictimIdleSeconds = idleSeconds;
    return true;
  }

  /** Removes a row from the index. Its room counts until it is freed. */
  takeOut(row: number): RemovedVersion | undefined {
    if (row === noRow) return undefined;
    const { openFiles } = this.#options.opener;
    const object = openFiles.ofRow(row);
    openFiles.remove(object);
    // The index may reuse the row number for another object.
    if (object !== undefined) object.row = noRow;
    return { ...this.#options.catalog.takeOut(row), object };
  }

  /** Restores the row of a file that could not be removed. The room of its readers counts again. */
  putBack(version: RemovedVersion): void {
    const { catalog, opener } = this.#options;
    const row = catalog.putBack(version);
    const { object } = version;
    if (object === undefined || object.isClosed) return;
    object.row = row;
    opener.openFiles.takeBack(object);
  }

  /** The caller holds the mutex. After a disk fault it restores the row and rejects. */
  async unlink(digest: Digest, version: RemovedVersion | undefined): Promise<Unlinked> {
    const { files, directory } = this.#options;
    const path = objectPath(directory, digest);
    const held = version === undefined ? undefined : await holdLarge(files, path, version.bytes).catch(() => undefined);
    const isSmall = version !== undefined && version.bytes <= maxSmallBytes;
    try {
      if (!isSmall || !(await files.unlinkSmall?.(path))) await files.unlink(path);
      return { isGone: true, held };
    } catch (error) {
      if (held !== undefined) files.close(held);
      if (faultKind(error) === 'absent') return { isGone: false, held: undefined };
      if (version !== undefined) this.putBack(version);
      throw error;
    }
  }

  /** Frees the room of a removed version. A large file is freed in steps, and only an eviction waits for them. */
  async free({ version, isGone, held }: Removed, { awaitsRoom = false } = {}): Promise<boolean> {
    const { files, catalog } = this.#options;
    if (version === undefined) return isGone;
    if (!isGone) {
      catalog.space.forgetDelete(version.bytes, 1);
      return false;
    }
    const freed = freeRoom({ files, space: catalog.space, ...version }, held);
    // A slow reader may keep the old version for minutes. Nothing may wait for it.
    if (version.object?.isClosed !== false && (awaitsRoom || held === undefined)) await freed;
    return true;
  }

  async #removeIf(key: Key, digest: Digest, condition: Condition): Promise<boolean> {
    const { catalog, mutex, opener } = this.#options;
    const name = fileName(digest);
    const removed = await mutex.run(name, async () => {
      await requireCondition(this.#options, digest, condition);
      const version = this.takeOut(catalog.find(digest));
      opener.forget(key, name);
      return { version, ...(await this.unlink(digest, version)) };
    });
    return await this.free(removed);
  }

  /**
   * Removes the file and the row of a digest. Resolves with false if it had no file. After a disk fault it restores the row and rejects.
   */
  async #removeFile(digest: Digest, row: number, { awaitsRoom }: { awaitsRoom: boolean }): Promise<boolean> {
    const { catalog, mutex } = this.#options;
    const version = this.takeOut(row);
    const removed = await mutex.run(fileName(digest), async () => {
      // A PUT in progress has replaced the file, which removed the old version. The file is the new version now.
      if (catalog.find(digest) !== noRow) return { isGone: true, held: undefined };
      return await this.unlink(digest, version);
    });
    return await this.free({ version, ...removed }, { awaitsRoom });
  }
}
