/** The objects of one directory: open, store, remove, evict. Knows files and their room, nothing of HTTP. */
import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Key } from '../../shared/key.ts';
import type { Counters } from '../counters.ts';
import { type Digest, digestOf } from '../digest.ts';
import { fileName, objectPath, temporaryFolder } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';
import { blockBytes, type ObjectMeta } from '../disk/trailer.ts';
import type { RemovedRow, UploadAdmission } from '../index/catalog.ts';
import { type Clock, tickMs } from '../index/clock.ts';
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

interface StoreOptions extends StoreParts {
  readonly clock: Clock;
  readonly window: PageCacheWindow;
  readonly counters: Counters;
}

interface NewObject extends Omit<ObjectMeta, 'length' | 'committedAt'> {
  /** Undefined for a chunked body. */
  readonly length: number | undefined;
  readonly maxShare: number | undefined;
}

/** Decides whether a change may replace or remove the version that is stored; undefined where there is none. */
export type Condition = (current: { readonly tag: string; readonly modifiedSeconds: number } | undefined) => boolean;

/** The condition of a PUT or DELETE does not hold: nothing has changed. */
export class ConditionError extends Error {
  readonly code = 'CONDITION';
}

type BeginResult =
  | Exclude<UploadAdmission, { kind: 'admitted' }>
  | { readonly kind: 'upload'; readonly upload: Upload; readonly maxBytes: number };

export class Store {
  /** Changes of one file run one after the other, under its name. */
  readonly mutex = new KeyedMutex();
  /** A part of the names of temporary files, so that recovery can tell those of an earlier process apart. */
  readonly runId = randomBytes(4).toString('hex');
  readonly #options: StoreOptions;
  readonly #opener: Opener;
  /** Open objects whose body came into memory with the opening and was not used since. */
  readonly #justRead = new WeakSet<OpenObject>();
  #temporaryNumber = 0;

  constructor(options: StoreOptions) {
    this.#options = options;
    this.#opener = new Opener({
      ...options,
      mutex: this.mutex,
      onBodyRead: (object) => this.#justRead.add(object),
      dropDamaged: (digest) => this.#dropDamaged(digest),
    });
  }

  get openFiles(): OpenFiles {
    return this.#opener.openFiles;
  }

  /** The object if it is open already. The caller must `acquire` it before it waits for anything. */
  openNow(key: Key): OpenObject | undefined {
    return this.openFiles.get(key);
  }

  /** Opens an object, or only that version of it, for one reader, which must `release` it. Undefined is a miss, or a disk that did not answer within `limitMs`. */
  async open(key: Key, { version, limitMs }: { version: string | undefined; limitMs: number }): Promise<OpenObject | undefined> {
    const object = await this.#opener.open(key, limitMs);
    if (version !== undefined && version !== object?.tag) return undefined;
    object?.acquire();
    return object;
  }

  /** Whether the object is expected to be in the page cache, so that reading it does not wait for the disk. */
  isWarm(object: OpenObject): boolean {
    const { row } = object;
    const { window, catalog } = this.#options;
    if (row !== noRow && object.length <= window.windowBytes / 2) {
      if (window.isWarm(catalog.index.tick(row)) && catalog.index.hasFlag(row, flagVerified)) return true;
    }
    return this.#justRead.has(object);
  }

  /** Records a use; true when the object was warm before it. */
  use(object: OpenObject): boolean {
    const isWarm = this.isWarm(object);
    const { row } = object;
    if (row === noRow) return isWarm;
    const { clock, window, catalog } = this.#options;
    if (!isWarm || this.#justRead.delete(object)) {
      // Larger objects are counted block by block, as they are read (reader.ts).
      if (object.length <= blockBytes) window.entered(object.length, clock.tick());
      catalog.index.setFlag(row, flagVerified, true);
    }
    catalog.read(row);
    return isWarm;
  }

  /** Admits a PUT and starts its upload. */
  begin(put: NewObject): BeginResult {
    const { files, buffers, directory, catalog } = this.#options;
    const admission = catalog.admitUpload({ ...put, length: put.length ?? 0 });
    if (admission.kind !== 'admitted') return admission;
    const { pool, maxBytes } = admission;
    this.#temporaryNumber += 1;
    const temporaryPath = `${temporaryFolder(directory)}/${this.runId}-${this.#temporaryNumber}.part`;
    const charge = (bytes: number) => catalog.charge(pool, bytes);
    const upload = new Upload({ ...put, temporaryPath, files, buffers, space: catalog.space, charge });
    return { kind: 'upload', upload, maxBytes };
  }

  /** Gives a finished upload its name: after this every GET sees it. Rejects with ConditionError or the disk's fault, nothing changed. */
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
    // The disk was late, and the client has learnt that the object is not stored.
    if (upload.isAbandoned) await this.remove(written.meta.key).catch((error: unknown) => this.#options.health.note(error, 'write'));
    return written;
  }

  /** True when there was such an object. It is gone for every later GET. Rejects with ConditionError or the disk's fault, nothing changed. */
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
    // Takes the row out before it waits, while the open version can still be found by it.
    const removed = this.#removeFile(digest, row, { awaitsRoom: false });
    this.#opener.forget(key, name);
    return removed;
  }

  /** A reader found the object damaged: checks it again and removes it. Does not reject. */
  async drop(object: OpenObject): Promise<void> {
    const digest = this.#digest(object.key);
    this.#opener.forget(object.key, fileName(digest));
    await this.#dropDamaged(digest);
  }

  /**
   * Reads the whole file of a digest and removes it when its bytes are not what was written; a whole file completes its row. It holds the mutex, so that it never removes
   * another version. Rejects with the disk's fault.
   */
  async dropIfDamaged(digest: Digest): Promise<void> {
    const { files, buffers, directory, counters, catalog } = this.#options;
    const path = objectPath(directory, digest);
    await this.mutex.run(fileName(digest), async () => {
      const row = catalog.find(digest);
      const checked = await checkFile({ files, buffers, path, blocks: undefined });
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

  /** Removes the file of a row to make room; false when the disk did not let it. Does not reject. */
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

  /** With the mutex held. Rejects with ConditionError, or with the fault of a disk that does not give the present version. */
  async #require(condition: Condition, digest: Digest): Promise<void> {
    if (!condition(await this.#currentVersion(digest))) throw new ConditionError('the condition does not hold');
  }

  async #currentVersion(digest: Digest): Promise<{ tag: string; modifiedSeconds: number } | undefined> {
    const { catalog, files, buffers, directory } = this.#options;
    const row = catalog.find(digest);
    if (row === noRow && catalog.space.isCounted) return undefined;
    const open = this.openFiles.ofRow(row);
    if (open !== undefined) return open;
    try {
      const { object, body } = await readObject({ files, buffers, path: objectPath(directory, digest), blocks: undefined });
      if (body !== undefined) buffers.give(body.buffer);
      // It closes as a file that keeps its name.
      object.row = row;
      object.release();
      return object;
    } catch (error) {
      // A damaged object is as good as none.
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

  /** With the mutex held: the new file takes the name and a row; the room of the old one is freed when its readers are done. */
  async #replace(digest: Digest, upload: Upload, written: WrittenFile, condition: Condition | undefined): Promise<void> {
    const { files, directory, clock, window, catalog } = this.#options;
    if (upload.isAbandoned) throw new Error('the upload was abandoned');
    if (condition !== undefined) await this.#require(condition, digest);
    const path = objectPath(directory, digest);
    const row = catalog.find(digest);
    const held = row === noRow ? undefined : await holdLarge(files, path, catalog.bytesOf(row)).catch(() => undefined);
    try {
      await files.rename(upload.options.temporaryPath, path);
    } catch (error) {
      if (held !== undefined) files.close(held);
      throw error;
    }
    // From here on without a wait: no request sees the new file and the old row together.
    const version = this.#takeOut(catalog.find(digest));
    this.#opener.forget(written.meta.key, fileName(digest));
    catalog.commit(digest, written.meta, { blocks: blocksOf(written.sizeBytes), takenBytes: upload.takenBytes });
    upload.options.charge(-upload.takenBytes);
    window.entered(written.sizeBytes, clock.tick());
    if (version !== undefined) void freeRoom({ files, space: catalog.space, ...version }, held);
    else if (held !== undefined) files.close(held);
  }

  /** Takes a row out of the index; its room counts until it is freed. */
  #takeOut(row: number): RemovedVersion | undefined {
    if (row === noRow) return undefined;
    const object = this.openFiles.ofRow(row);
    this.openFiles.remove(object);
    // The index may soon give the row's number to another object.
    if (object !== undefined) object.row = noRow;
    return { ...this.#options.catalog.takeOut(row), object };
  }

  /** Removes the file of a digest, and its row if it has one; false when there was no file. Rejects with the disk's fault: then the row is back. */
  async #removeFile(digest: Digest, row: number, { awaitsRoom }: { awaitsRoom: boolean }): Promise<boolean> {
    const version = this.#takeOut(row);
    const removed = await this.mutex.run(fileName(digest), async () => {
      // A PUT that was under way took the name meanwhile, which freed the old version: the name is the new version's.
      if (this.#options.catalog.find(digest) !== noRow) return { isGone: true, held: undefined };
      return await this.#unlink(digest, version);
    });
    return await this.#free({ version, ...removed }, awaitsRoom);
  }

  /** With the mutex held. `held` is the descriptor by which a large file is emptied. */
  async #unlink(digest: Digest, version: RemovedRow | undefined): Promise<{ isGone: boolean; held: number | undefined }> {
    const { files, directory, catalog } = this.#options;
    const path = objectPath(directory, digest);
    const held = version === undefined ? undefined : await holdLarge(files, path, version.bytes).catch(() => undefined);
    try {
      await files.unlink(path);
      return { isGone: true, held };
    } catch (error) {
      if (held !== undefined) files.close(held);
      if (faultKind(error) === 'absent') return { isGone: false, held: undefined };
      if (version !== undefined) catalog.putBack(version);
      throw error;
    }
  }

  /** Frees the room of a version whose name is gone. A large file is freed in steps, for which only an eviction waits. */
  async #free({ version, isGone, held }: Removed, awaitsRoom: boolean): Promise<boolean> {
    const { files, catalog } = this.#options;
    if (version === undefined) return isGone;
    if (!isGone) {
      catalog.space.forgetDelete(version.bytes, 1);
      return false;
    }
    const freed = freeRoom({ files, space: catalog.space, ...version }, held);
    // A slow reader may keep the old version for minutes: nothing waits for that.
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
