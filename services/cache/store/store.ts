/** Opens, stores, removes and evicts the objects of one directory. It does not depend on HTTP. */
import { randomBytes } from 'node:crypto';
import type { Key } from '../../shared/key.ts';
import type { Counters } from '../counters.ts';
import { type Digest, digestOf } from '../digest.ts';
import { fileName } from '../disk/file-name.ts';
import type { ObjectMeta } from '../disk/trailer.ts';
import { flagVerified, noRow } from '../index/object-index.ts';
import type { Condition } from './condition.ts';
import { type Inspected, Inspector } from './inspector.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import type { OpenFiles } from './open-files.ts';
import type { OpenObject } from './open-object.ts';
import { Opener, type StoreParts } from './opener.ts';
import type { PageCacheWindow } from './page-cache-window.ts';
import { Remover } from './remover.ts';
import type { Upload, WrittenFile } from './upload.ts';
import { type BeginResult, type NewObject, type Placing, Uploads } from './uploads.ts';

interface StoreOptions extends StoreParts {
  readonly window: PageCacheWindow;
  readonly counters: Counters;
  /** Called for each object that a removal has removed. */
  readonly onRemoved: (version: ObjectMeta, bytes: number) => void;
}

export class Store {
  /** Serializes the changes of each file, by file name. */
  readonly mutex = new KeyedMutex();
  /** Part of the names of temporary files. It lets recovery recognize the files of earlier processes. */
  readonly runId = randomBytes(4).toString('hex');
  readonly #options: StoreOptions;
  readonly #opener: Opener;
  readonly #remover: Remover;
  readonly #inspector: Inspector;
  readonly #uploads: Uploads;

  constructor(options: StoreOptions) {
    const { mutex, runId } = this;
    this.#options = options;
    const opener = new Opener({
      ...options,
      mutex,
      onBodyRead: (object) => options.window.entered(object.length, options.clock.tick()),
      dropDamaged: (digest) => this.#inspector.dropDamaged(digest),
      dropRemoved: async (digest) => {
        await this.inspectAlone(digest).catch((error: unknown) => options.health.note(error, 'write'));
      },
    });
    const remover = new Remover({ ...options, mutex, opener });
    this.#opener = opener;
    this.#remover = remover;
    this.#inspector = new Inspector({ ...options, mutex, opener, remover });
    this.#uploads = new Uploads({ ...options, mutex, opener, remover, runId });
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

  /** Opens the temporary file of an upload for reading. Only an upload with `onWritten` has it before `place`. */
  async openTemporary({ options }: Upload): Promise<number> {
    return await this.#options.files.open(options.temporaryPath, 'r');
  }

  close(fd: number): void {
    this.#options.files.close(fd);
  }

  /** Admits a PUT and starts its upload. */
  begin(put: NewObject): BeginResult {
    return this.#uploads.begin(put);
  }

  /** Stores the object of an upload. Rejects if it is not stored, with ConditionError, RevokedError or a disk fault. */
  commit(upload: Upload, condition?: Condition): Promise<WrittenFile> {
    return this.#uploads.commit(upload, condition);
  }

  /** The first half of `commit`. The caller must `place` the file or discard the upload. */
  finish(upload: Upload): Promise<WrittenFile> {
    return this.#uploads.finish(upload);
  }

  /** The second half of `commit`. With `fd`, a descriptor of the file, it returns the object, which the caller must `release`. */
  place(upload: Upload, written: WrittenFile, placing: Placing): Promise<OpenObject | undefined> {
    return this.#uploads.place(upload, written, placing);
  }

  /** Resolves with whether the object existed. Rejects if it is unchanged, with ConditionError or a disk fault. */
  remove(key: Key, condition?: Condition): Promise<boolean> {
    return this.#remover.remove(key, condition);
  }

  /** Removes the file of a digest that has no row. Resolves with false if the disk failed. Does not reject. */
  removeUnknown(digest: Digest): Promise<boolean> {
    return this.#remover.removeUnknown(digest);
  }

  /** Removes the file of a row to make room. Resolves with false if the disk failed. Does not reject. */
  evict(row: number): Promise<boolean> {
    return this.#remover.evict(row);
  }

  /** A removal with this time or a later one covers what begins now. */
  now(): bigint {
    return this.#options.clock.commitTime();
  }

  /** Call it when a removal comes into force: the next request for an object that it covers reads the disk, and finds nothing. */
  applyRemovals(): void {
    this.openFiles.hideIf(this.#options.isRemoved);
    this.#uploads.revoke();
  }

  /** Completes the row of a file, or removes the file if it is damaged or removed. Rejects with a disk fault. */
  inspect(digest: Digest): Promise<Inspected> {
    return this.#inspector.inspect(digest);
  }

  /** As `inspect`. Meanwhile no other request opens or changes the file, so it removes a file after one read. */
  inspectAlone(digest: Digest): Promise<Inspected> {
    return this.#inspector.inspectAlone(digest);
  }

  /** Reads the whole file of a digest and removes it if it is damaged. Rejects with a disk fault. */
  dropIfDamaged(digest: Digest): Promise<void> {
    return this.#inspector.dropIfDamaged(digest);
  }

  /** Called when a reader finds the object damaged. Checks the file again and removes it if it is damaged. Does not reject. */
  async drop(object: OpenObject): Promise<void> {
    const digest = digestOf(this.#options.secret, object.key);
    this.#opener.hide(object, fileName(digest));
    await this.#inspector.dropDamaged(digest);
  }
}
