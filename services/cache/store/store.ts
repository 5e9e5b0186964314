/** Opens, stores, removes and evicts the objects of one directory. It does not depend on HTTP. */
import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Key } from '../../shared/key.ts';
import type { Counters } from '../counters.ts';
import { type Digest, digestOf } from '../digest.ts';
import { fileName, objectPath, temporaryFolder } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';
import { type ObjectMeta, ownerOf, type Trailer } from '../disk/trailer.ts';
import type { RemovedRow, SizeLimit, UploadAdmission } from '../index/catalog.ts';
import { tickMs } from '../index/clock.ts';
import { flagUnconfirmed, flagVerified, noRow } from '../index/object-index.ts';
import { blocksOf } from '../index/space.ts';
import { freeRoom, holdLarge } from './free-file.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import type { OpenFiles } from './open-files.ts';
import { CorruptObjectError, OpenObject } from './open-object.ts';
import { Opener, type StoreParts } from './opener.ts';
import type { PageCacheWindow } from './page-cache-window.ts';
import { checkFile, readObject } from './read-object.ts';
import { readTrailer } from './read-trailer.ts';
import { Upload, type WrittenFile } from './upload.ts';

/** The unlink of a larger file would hold up the small files that the same thread writes. */
const maxSmallBytes = 1024 * 1024;

interface StoreOptions extends StoreParts {
  readonly window: PageCacheWindow;
  readonly counters: Counters;
  /** Called for each object that a removal has removed. */
  readonly onRemoved: (version: ObjectMeta, bytes: number) => void;
}

interface NewObject extends Omit<ObjectMeta, 'length' | 'committedAt'> {
  /** Undefined for a chunked body. */
  readonly length: number | undefined;
  readonly maxShare: number | undefined;
  readonly onWritten?: () => void;
  /** When its body was requested, as a commit time. Undefined: now. */
  readonly begunAt?: bigint;
}

/** Decides whether a change may replace or remove the stored version. `current` is undefined if nothing is stored. */
export type Condition = (current: { readonly tag: string; readonly modifiedSeconds: number } | undefined) => boolean;

/** The condition of a PUT or DELETE does not hold: nothing has changed. */
export class ConditionError extends Error {
  readonly code = 'CONDITION';
}

/** A removal of its prefix came after the start of the upload: it is not stored. */
export class RevokedError extends ConditionError {}

/** What a look at the trailer of a file has found. */
export type Inspected =
  | { readonly kind: 'stored'; readonly meta: ObjectMeta }
  /** A removal covers it: it is removed now, or another request removes it. */
  | { readonly kind: 'removed' }
  | { readonly kind: 'absent' };

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
  /** When each upload in progress began: a commit time. */
  readonly #uploads = new Map<Upload, bigint>();
  #temporaryNumber = 0;

  constructor(options: StoreOptions) {
    this.#options = options;
    this.#opener = new Opener({
      ...options,
      mutex: this.mutex,
      onBodyRead: (object) => options.window.entered(object.length, options.clock.tick()),
      dropDamaged: (digest) => this.#dropDamaged(digest),
      dropRemoved: async (digest) => {
        await this.inspectAlone(digest).catch((error: unknown) => options.health.note(error, 'write'));
      },
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
   * `version`, or if the disk does not respond within `limitMs`. With `isCounted`, a miss counts in its data set.
   */
  async open(
    key: Key,
    { version, limitMs, isCounted = true }: { version: string | undefined; limitMs: number; isCounted?: boolean },
  ): Promise<OpenObject | undefined> {
    const object = await this.#opener.open(key, limitMs);
    if (object === undefined && isCounted) this.#options.catalog.countMiss(key);
    if (version === undefined || version === object?.tag) return object;
    object?.release();
    return undefined;
  }

  /** Records a use. With `isCounted`, it is a hit of its data set. */
  use({ row }: OpenObject, isCounted = true): void {
    if (row === noRow) return;
    const { catalog } = this.#options;
    catalog.index.setFlag(row, flagVerified, true);
    catalog.read(row, isCounted);
  }

  /** Admits a PUT and starts its upload. */
  begin(put: NewObject): BeginResult {
    const { files, buffers, directory, catalog } = this.#options;
    const admission = catalog.admitUpload({ namespace: ownerOf(put), maxShare: put.maxShare, length: put.length ?? 0 });
    if (admission.kind !== 'admitted') return admission;
    const { pool, limit } = admission;
    this.#temporaryNumber += 1;
    const temporaryPath = `${temporaryFolder(directory)}/${this.runId}-${this.#temporaryNumber}.part`;
    const charge = (bytes: number) => catalog.charge(pool, bytes);
    const onDiscard = () => void this.#uploads.delete(upload);
    const upload: Upload = new Upload({ ...put, temporaryPath, files, buffers, space: catalog.space, charge, onDiscard });
    this.#uploads.set(upload, put.begunAt ?? this.now());
    return { kind: 'upload', upload, limit };
  }

  /**
   * Gives the file of an upload its final name. If it rejects with ConditionError, RevokedError or a disk fault, the upload is not
   * stored.
   */
  async commit(upload: Upload, condition?: Condition): Promise<WrittenFile> {
    const written = await this.finish(upload);
    try {
      await this.place(upload, written, { condition });
    } catch (error) {
      await upload.discard();
      throw error;
    }
    // A removal came during the rename.
    if (upload.isRevoked) throw new RevokedError('a removal covers the upload');
    return written;
  }

  /** Ends the body of an upload, as Upload.finish does. The caller must `place` the file or discard the upload. */
  async finish(upload: Upload): Promise<WrittenFile> {
    try {
      return await upload.finish(this.#options.clock.commitTime());
    } catch (error) {
      void upload.abort();
      throw error;
    }
  }

  /** Opens the temporary file of an upload for reading. Only an upload with `onWritten` has it before `place`. */
  async openTemporary({ options }: Upload): Promise<number> {
    return await this.#options.files.open(options.temporaryPath, 'r');
  }

  close(fd: number): void {
    this.#options.files.close(fd);
  }

  /**
   * Gives a finished file its final name. Rejects as `commit` does; then the caller discards the upload. With `fd`, a descriptor of the
   * file, it takes the descriptor over and returns the object, which the caller must `release`.
   */
  async place(
    upload: Upload,
    written: WrittenFile,
    { condition, fd }: { condition?: Condition | undefined; fd?: number | undefined },
  ): Promise<OpenObject | undefined> {
    const digest = this.#digest(written.meta.key);
    const object = await this.mutex.run(fileName(digest), () => this.#replace(digest, { upload, written, condition, fd }));
    this.#uploads.delete(upload);
    this.#options.catalog.evictor.run();
    // The disk was late and the response has already stated that the object is not stored, or a removal came during the rename.
    if (upload.isAbandoned || upload.isRevoked)
      await this.remove(written.meta.key).catch((error: unknown) => this.#options.health.note(error, 'write'));
    return object;
  }

  /** A removal with this time or a later one covers what begins now. */
  now(): bigint {
    return this.#options.clock.commitTime();
  }

  /** Call it when a removal comes into force: the next request for an object that it covers reads the disk, and finds nothing. */
  applyRemovals(): void {
    const { isRemoved } = this.#options;
    this.openFiles.hideIf(isRemoved);
    for (const [upload, committedAt] of this.#uploads) if (isRemoved({ key: upload.options.key, committedAt })) upload.isRevoked = true;
  }

  /**
   * Reads the trailer of a file and completes its row. Removes the file if a removal covers it or if it is damaged. Rejects with a disk
   * fault.
   */
  async inspect(digest: Digest): Promise<Inspected> {
    try {
      const meta = await this.#readMeta(digest, () => !this.mutex.isBusy(fileName(digest)));
      if (!this.#options.isRemoved(meta)) return { kind: 'stored', meta };
    } catch (error) {
      return await this.#handleBadFile(error, digest);
    }
    return await this.inspectAlone(digest);
  }

  /** As `inspect`. Meanwhile no other request opens or changes the file, so it removes a file after one read. */
  async inspectAlone(digest: Digest): Promise<Inspected> {
    try {
      return await this.#removeCovered(digest);
    } catch (error) {
      return await this.#handleBadFile(error, digest);
    }
  }

  /** `isUnchanged`: no other request is replacing or removing the file. */
  async #readMeta(digest: Digest, isUnchanged: () => boolean): Promise<Trailer> {
    const { files, directory, catalog } = this.#options;
    const row = catalog.find(digest);
    const isSame = () => row !== noRow && row === catalog.find(digest);
    const blocks = row !== noRow && !catalog.index.hasFlag(row, flagUnconfirmed) ? catalog.index.blocks(row) : undefined;
    const isStored = () => isSame() && isUnchanged();
    const meta = await readTrailer({ files, path: objectPath(directory, digest), blocks, isStored });
    if (!isDeepStrictEqual(this.#digest(meta.key), digest)) throw new CorruptObjectError('the file has the name of another key');
    if (isSame()) catalog.learnOwner(row, { ...meta, namespace: ownerOf(meta) });
    return meta;
  }

  /** The file has gone, or is removed if it is really damaged: it also seems damaged if a new version has replaced it. */
  async #handleBadFile(error: unknown, digest: Digest): Promise<Inspected> {
    if (error instanceof CorruptObjectError) await this.dropIfDamaged(digest);
    else if (faultKind(error) !== 'absent') throw error;
    return { kind: 'absent' };
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
    this.#opener.hide(object, fileName(digest));
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

  /** It holds the mutex, so that it never removes a newer version. Rejects with CorruptObjectError or a disk fault. */
  async #removeCovered(digest: Digest): Promise<Inspected> {
    const { catalog, isRemoved, onRemoved } = this.#options;
    const row = catalog.find(digest);
    const { meta, removed } = await this.mutex.run(fileName(digest), async () => {
      const meta = await this.#readMeta(digest, () => true);
      // Another request has removed the row and waits for the mutex to remove the file.
      const isTaken = row !== noRow && catalog.find(digest) === noRow;
      if (isTaken || !isRemoved(meta)) return { meta, removed: undefined };
      const version = this.#takeOut(catalog.find(digest));
      this.#opener.forget(meta.key, fileName(digest));
      const unlinked = await this.#unlink(digest, version);
      if (unlinked.isGone) onRemoved(meta, version?.bytes ?? 0);
      return { meta, removed: { version, ...unlinked } };
    });
    if (removed === undefined) return isRemoved(meta) ? { kind: 'removed' } : { kind: 'stored', meta };
    await this.#free(removed, false);
    return { kind: 'removed' };
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
    if (open !== undefined) return this.#options.isRemoved(open) ? undefined : open;
    try {
      const path = objectPath(directory, digest);
      const { object, body } = await readObject({ files, buffers, path, blocks: undefined, tick: clock.tick() });
      body?.give();
      // With a row, `release` closes it as a file that keeps its name.
      object.row = row;
      object.release();
      return this.#options.isRemoved(object) ? undefined : object;
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
  async #replace(digest: Digest, { upload, written, condition, fd }: Replacement): Promise<OpenObject | undefined> {
    const { files, directory, clock, window, catalog } = this.#options;
    if (upload.isAbandoned) throw new Error('the upload was abandoned');
    if (upload.isRevoked) throw new RevokedError('a removal covers the upload');
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
    const owner = { key: written.meta.key, namespace: ownerOf(written.meta) };
    catalog.commit(digest, owner, { blocks: blocksOf(written.sizeBytes), takenBytes: upload.takenBytes });
    upload.options.charge(-upload.takenBytes);
    window.entered(written.sizeBytes, clock.tick());
    const object = fd === undefined ? undefined : this.#adopt(digest, written, fd);
    if (version !== undefined) void freeRoom({ files, space: catalog.space, ...version }, held);
    else if (held !== undefined) files.close(held);
    return object;
  }

  /** Keeps the file of a new row open. A reader of the growing file holds its room in this way until it ends. */
  #adopt(digest: Digest, { meta, sums, sumOfSums, sizeBytes: fileBytes }: WrittenFile, fd: number): OpenObject {
    const { files, catalog } = this.#options;
    const row = catalog.find(digest);
    const close = (isStored: boolean) => (isStored ? files.closeSync(fd) : files.close(fd));
    const object = new OpenObject({ trailer: { ...meta, sumOfSums, fileBytes }, sums, fd, row, close });
    object.acquire();
    this.openFiles.add(object);
    return object;
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

interface Replacement {
  readonly upload: Upload;
  readonly written: WrittenFile;
  readonly condition: Condition | undefined;
  /** A descriptor of the file, which stays open for readers. */
  readonly fd: number | undefined;
}

type RemovedVersion = RemovedRow & { readonly object: OpenObject | undefined };

interface Removed {
  readonly version: RemovedVersion | undefined;
  readonly isGone: boolean;
  readonly held: number | undefined;
}
