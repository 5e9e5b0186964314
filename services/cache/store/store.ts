/** Opens, stores, removes and evicts the objects of one directory. It does not depend on HTTP. */
import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Key } from '../../shared/key.ts';
import type { Counters } from '../counters.ts';
import { type Digest, digestOf } from '../digest.ts';
import { fileName, objectPath, temporaryFolder } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';
import type { ObjectMeta } from '../disk/trailer.ts';
import type { RemovedRow, SizeLimit, UploadAdmission } from '../index/catalog.ts';
import { tickMs } from '../index/clock.ts';
import { flagVerified, noRow } from '../index/object-index.ts';
import { blocksOf } from '../index/space.ts';
import { freeRoom, holdLarge } from './free-file.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import type { OpenFiles } from './open-files.ts';
import { CorruptObjectError, type OpenObject } from './open-object.ts';
import { Opener, type StoreParts } from './opener.ts';
import type { PageCacheWindow } from './page-cache-window.ts';
import { checkFile, readObject } from './read-object.ts';
import { Upload, type WrittenFile } from './upload.ts';

/** The unlink of a larger file would hold up the small files that the same thread writes. */
const maxSmallBytes = 1024 * 1024;

interface StoreOptions extends StoreParts {
  readonly window: PageCacheWindow;
  readonly counters: Counters;
}

interface NewObject extends Omit<ObjectMeta, 'length' | 'committedAt'> {
  /** Undefined for a chunked body. */
  readonly length: number | undefined;
  readonly maxShare: number | undefined;
}

/** Decides whether a change may replace or remove the stored version. `current` is undefined if nothing is stored. */
export type Condition = (current: { readonly tag: string; readonly modifiedSeconds: number } | undefined) => boolean;

/** The condition of a PUT or DELETE does not hold: nothing has changed. */
export class ConditionError extends Error {
  readonly code = 'CONDITION';
}

type BeginResult =
  | Exclude<UploadAdmission, { kind: 'admitted' }>
  | { readonly kind: 'upload'; readonly upload: Upload; readonly limit: SizeLimit };

export class Store {
  /** Serializes the changes of each file, by file name. */
  readonly mutex = new KeyedMutex();
  /** Part of the names of temporary files. It lets recovery recognize the files of earlier processes. */
  readonly runId = randomBytes(4).toString('hex');
  readonly #options: StoreOptions;
  readonly #opener: Opener;
  #temporaryNumber = 0;

  constructor(options: StoreOptions) {
    this.#options = options;
    this.#opener = new Opener({
      ...options,
      mutex: this.mutex,
      onBodyRead: (object) => options.window.entered(object.length, options.clock.tick()),
      dropDamaged: (digest) => this.#dropDamaged(digest),
    });
  }

  get openFiles(): OpenFiles {
    return this.#opener.openFiles;
  }

  /** Returns the object if it is already open. The caller must `acquire` it before its next await. */
  openNow(key: Key): OpenObject | undefined {
    return this.openFiles.get(key);
  }

  /**
   * Opens an object for one reader, which must `release` it. Resolves with undefined if it is not stored, has another version than
   * `version`, or if the disk does not respond within `limitMs`.
   */
  async open(key: Key, { version, limitMs }: { version: string | undefined; limitMs: number }): Promise<OpenObject | undefined> {
    const object = await this.#opener.open(key, limitMs);
    if (version !== undefined && version !== object?.tag) return undefined;
    object?.acquire();
    return object;
  }

  /** Records a use. */
  use({ row }: OpenObject): void {
    if (row === noRow) return;
    const { catalog } = this.#options;
    catalog.index.setFlag(row, flagVerified, true);
    catalog.read(row);
  }

  /** Admits a PUT and starts its upload. */
  begin(put: NewObject): BeginResult {
    const { files, buffers, directory, catalog } = this.#options;
    const admission = catalog.admitUpload({ ...put, length: put.length ?? 0 });
    if (admission.kind !== 'admitted') return admission;
    const { pool, limit } = admission;
    this.#temporaryNumber += 1;
    const temporaryPath = `${temporaryFolder(directory)}/${this.runId}-${this.#temporaryNumber}.part`;
    const charge = (bytes: number) => catalog.charge(pool, bytes);
    const upload = new Upload({ ...put, temporaryPath, files, buffers, space: catalog.space, charge });
    return { kind: 'upload', upload, limit };
  }

  /** Gives the file of an upload its final name. If it rejects with ConditionError or a disk fault, the stored object is unchanged. */
  async commit(upload: Upload, condition?: Condition): Promise<WrittenFile> {
    let written: WrittenFile;
    try {
      written = await upload.finish(this.#options.clock.commitTime());
    } catch (error) {
      void upload.abort();
      throw error;
    }
    const digest = this.#digest(written.meta.key);
    try {
      await this.mutex.run(fileName(digest), () => this.#replace(digest, upload, written, condition));
    } catch (error) {
      await upload.discard();
      throw error;
    }
    this.#options.catalog.evictor.run();
    // The disk was late, and the response has already stated that the object is not stored.
    if (upload.isAbandoned) await this.remove(written.meta.key).catch((error: unknown) => this.#options.health.note(error, 'write'));
    return written;
  }

  /** Resolves with whether the object existed. If it rejects with ConditionError or a disk fault, the stored object is unchanged. */
  async remove(key: Key, condition?: Condition): Promise<boolean> {
    const { catalog } = this.#options;
    const digest = this.#digest(key);
    const name = fileName(digest);
    if (condition !== undefined) return await this.#removeIf(key, digest, condition);
    const row = catalog.find(digest);
    if (row === noRow && catalog.space.isCounted) {
      await this.mutex.settled(name);
      return false;
    }
    // #removeFile takes the row out synchronously. It finds the open version by its row, so `forget` comes after it.
    const removed = this.#removeFile(digest, row, { awaitsRoom: false });
    this.#opener.forget(key, name);
    return removed;
  }

  /** Called when a reader finds the object damaged. Checks the file again and removes it if it is damaged. Does not reject. */
  async drop(object: OpenObject): Promise<void> {
    const digest = this.#digest(object.key);
    this.#opener.forget(object.key, fileName(digest));
    await this.#dropDamaged(digest);
  }

  /**
   * Reads the whole file of a digest and removes it if it is damaged. An undamaged file completes its row. It holds the mutex, so that it
   * never removes another version. Rejects with a disk fault.
   */
  async dropIfDamaged(digest: Digest): Promise<void> {
    const { files, buffers, directory, counters, catalog, clock } = this.#options;
    const path = objectPath(directory, digest);
    await this.mutex.run(fileName(digest), async () => {
      const row = catalog.find(digest);
      const checked = await checkFile({ files, buffers, path, blocks: undefined, tick: clock.tick() });
      if (checked.kind === 'absent') return this.#opener.forgetFile(digest);
      if (checked.kind === 'whole' && isDeepStrictEqual(this.#digest(checked.key), digest)) {
        if (row !== noRow && row === catalog.find(digest)) catalog.learnOwner(row, checked);
        return;
      }
      counters.corruptObjects += 1;
      const version = this.#takeOut(catalog.find(digest));
      try {
        await files.unlink(path);
      } catch (error) {
        if (version !== undefined) catalog.putBack(version);
        throw error;
      }
      if (version !== undefined) void freeRoom({ files, space: catalog.space, ...version }, undefined);
    });
  }

  /** Removes the file of a digest that has no row. Does not reject. */
  async removeUnknown(digest: Digest): Promise<void> {
    await this.#removeFile(digest, noRow, { awaitsRoom: false }).catch((error: unknown) => this.#options.health.note(error, 'write'));
  }

  /** Removes the file of a row to make room. Resolves with false if the disk failed. Does not reject. */
  async evict(row: number): Promise<boolean> {
    const { clock, counters, health, catalog } = this.#options;
    const bytes = catalog.bytesOf(row);
    const idleSeconds = ((clock.tick() - catalog.index.tick(row)) * tickMs) / 1000;
    try {
      await this.#removeFile(catalog.index.digest(row), row, { awaitsRoom: true });
    } catch (error) {
      health.note(error, 'write');
      return false;
    }
    counters.evictedObjects += 1;
    counters.evictedBytes += bytes;
    counters.lastVictimIdleSeconds = idleSeconds;
    return true;
  }

  async #removeIf(key: Key, digest: Digest, condition: Condition): Promise<boolean> {
    const { catalog } = this.#options;
    const name = fileName(digest);
    const removed = await this.mutex.run(name, async () => {
      await this.#require(condition, digest);
      const version = this.#takeOut(catalog.find(digest));
      this.#opener.forget(key, name);
      return { version, ...(await this.#unlink(digest, version)) };
    });
    return await this.#free(removed, false);
  }

  /** The caller holds the mutex. Rejects with ConditionError, or with a disk fault if the stored version cannot be read. */
  async #require(condition: Condition, digest: Digest): Promise<void> {
    if (!condition(await this.#currentVersion(digest))) throw new ConditionError('the condition does not hold');
  }

  async #currentVersion(digest: Digest): Promise<{ tag: string; modifiedSeconds: number } | undefined> {
    const { catalog, files, buffers, directory, clock } = this.#options;
    const row = catalog.find(digest);
    if (row === noRow && catalog.space.isCounted) return undefined;
    const open = this.openFiles.ofRow(row);
    if (open !== undefined) return open;
    try {
      const path = objectPath(directory, digest);
      const { object, body } = await readObject({ files, buffers, path, blocks: undefined, tick: clock.tick() });
      if (body !== undefined) buffers.give(body.buffer);
      // With a row, `release` closes it as a file that keeps its name.
      object.row = row;
      object.release();
      return object;
    } catch (error) {
      // A damaged object counts as missing.
      if (error instanceof CorruptObjectError || faultKind(error) === 'absent') return undefined;
      throw error;
    }
  }

  #digest(key: Key): Digest {
    return digestOf(this.#options.secret, key);
  }

  async #dropDamaged(digest: Digest): Promise<void> {
    await this.dropIfDamaged(digest).catch((error: unknown) => this.#options.health.note(error, 'read'));
  }

  /** The caller holds the mutex. Renames the new file and adds its row. The room of the old version is freed after its last reader. */
  async #replace(digest: Digest, upload: Upload, written: WrittenFile, condition: Condition | undefined): Promise<void> {
    const { files, directory, clock, window, catalog } = this.#options;
    if (upload.isAbandoned) throw new Error('the upload was abandoned');
    if (condition !== undefined) await this.#require(condition, digest);
    const path = objectPath(directory, digest);
    const row = catalog.find(digest);
    const held = row === noRow ? undefined : await holdLarge(files, path, catalog.bytesOf(row)).catch(() => undefined);
    try {
      await upload.moveTo(path);
    } catch (error) {
      if (held !== undefined) files.close(held);
      throw error;
    }
    // No await from here on: no request sees the new file with the old row.
    const version = this.#takeOut(catalog.find(digest));
    this.#opener.forget(written.meta.key, fileName(digest));
    catalog.commit(digest, written.meta, { blocks: blocksOf(written.sizeBytes), takenBytes: upload.takenBytes });
    upload.options.charge(-upload.takenBytes);
    window.entered(written.sizeBytes, clock.tick());
    if (version !== undefined) void freeRoom({ files, space: catalog.space, ...version }, held);
    else if (held !== undefined) files.close(held);
  }

  /** Removes a row from the index. Its room counts until it is freed. */
  #takeOut(row: number): RemovedVersion | undefined {
    if (row === noRow) return undefined;
    const object = this.openFiles.ofRow(row);
    this.openFiles.remove(object);
    // The index may reuse the row number for another object.
    if (object !== undefined) object.row = noRow;
    return { ...this.#options.catalog.takeOut(row), object };
  }

  /**
   * Removes the file and the row of a digest. Resolves with false if it had no file. After a disk fault it restores the row and rejects.
   */
  async #removeFile(digest: Digest, row: number, { awaitsRoom }: { awaitsRoom: boolean }): Promise<boolean> {
    const version = this.#takeOut(row);
    const removed = await this.mutex.run(fileName(digest), async () => {
      // A PUT in progress has replaced the file, which removed the old version. The file is the new version now.
      if (this.#options.catalog.find(digest) !== noRow) return { isGone: true, held: undefined };
      return await this.#unlink(digest, version);
    });
    return await this.#free({ version, ...removed }, awaitsRoom);
  }

  /** The caller holds the mutex. `held` is the descriptor with which freeRoom empties a large file. */
  async #unlink(digest: Digest, version: RemovedRow | undefined): Promise<{ isGone: boolean; held: number | undefined }> {
    const { files, directory, catalog } = this.#options;
    const path = objectPath(directory, digest);
    const held = version === undefined ? undefined : await holdLarge(files, path, version.bytes).catch(() => undefined);
    const isSmall = version !== undefined && version.bytes <= maxSmallBytes;
    try {
      if (!isSmall || !(await files.unlinkSmall?.(path))) await files.unlink(path);
      return { isGone: true, held };
    } catch (error) {
      if (held !== undefined) files.close(held);
      if (faultKind(error) === 'absent') return { isGone: false, held: undefined };
      if (version !== undefined) catalog.putBack(version);
      throw error;
    }
  }

  /** Frees the room of a removed version. A large file is freed in steps, and only an eviction waits for them. */
  async #free({ version, isGone, held }: Removed, awaitsRoom: boolean): Promise<boolean> {
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
}

type RemovedVersion = RemovedRow & { readonly object: OpenObject | undefined };

interface Removed {
  readonly version: RemovedVersion | undefined;
  readonly isGone: boolean;
  readonly held: number | undefined;
}
