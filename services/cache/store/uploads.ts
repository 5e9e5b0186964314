/** The uploads in progress: admits them, ends them, and gives their files the final names. */
import { type Digest, digestOf } from '../digest.ts';
import { fileName, objectPath, temporaryFolder } from '../disk/file-name.ts';
import { type ObjectMeta, ownerOf } from '../disk/trailer.ts';
import type { SizeLimit, UploadAdmission } from '../index/catalog.ts';
import { noRow } from '../index/object-index.ts';
import { blocksOf } from '../index/space.ts';
import { type Condition, RevokedError, requireCondition } from './condition.ts';
import { freeRoom, holdLarge } from './free-file.ts';
import { OpenObject } from './open-object.ts';
import type { PageCacheWindow } from './page-cache-window.ts';
import type { Remover, RemoverOptions } from './remover.ts';
import { Upload, type WrittenFile } from './upload.ts';

interface UploadsOptions extends RemoverOptions {
  readonly remover: Remover;
  readonly window: PageCacheWindow;
  /** Part of the names of temporary files. */
  readonly runId: string;
}

export interface NewObject extends Omit<ObjectMeta, 'length' | 'committedAt'> {
  /** Undefined for a chunked body. */
  readonly length: number | undefined;
  readonly maxShare: number | undefined;
  readonly onWritten?: () => void;
  /** When its body was requested, as a commit time. Undefined: now. */
  readonly begunAt?: bigint;
}

export type BeginResult =
  | Exclude<UploadAdmission, { kind: 'admitted' }>
  | { readonly kind: 'upload'; readonly upload: Upload; readonly limit: SizeLimit };

export interface Placing {
  readonly condition?: Condition | undefined;
  /** A descriptor of the file, which stays open for readers. */
  readonly fd?: number | undefined;
}

interface Replacement extends Placing {
  readonly upload: Upload;
  readonly written: WrittenFile;
}

export class Uploads {
  readonly #options: UploadsOptions;
  /** When each upload in progress began: a commit time. */
  readonly #begun = new Map<Upload, bigint>();
  #temporaryNumber = 0;

  constructor(options: UploadsOptions) {
    this.#options = options;
  }

  /** Admits a PUT and starts its upload. */
  begin(put: NewObject): BeginResult {
    const { files, buffers, directory, catalog, clock, runId } = this.#options;
    const admission = catalog.admitUpload({ namespace: ownerOf(put), maxShare: put.maxShare, length: put.length ?? 0 });
    if (admission.kind !== 'admitted') return admission;
    const { pool, limit } = admission;
    this.#temporaryNumber += 1;
    const temporaryPath = `${temporaryFolder(directory)}/${runId}-${this.#temporaryNumber}.part`;
    const charge = (bytes: number) => catalog.charge(pool, bytes);
    const onDiscard = () => void this.#begun.delete(upload);
    const upload: Upload = new Upload({ ...put, temporaryPath, files, buffers, space: catalog.space, charge, onDiscard });
    this.#begun.set(upload, put.begunAt ?? clock.commitTime());
    return { kind: 'upload', upload, limit };
  }

  /**
   * Gives the file of an upload its final name. If it rejects with ConditionError, RevokedError or a disk fault, the upload is not
   * stored.
   */
  async commit(upload: Upload, condition: Condition | undefined): Promise<WrittenFile> {
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

  /**
   * Gives a finished file its final name. Rejects as `commit` does; then the caller discards the upload. With `fd`, a descriptor of the
   * file, it takes the descriptor over and returns the object, which the caller must `release`.
   */
  async place(upload: Upload, written: WrittenFile, placing: Placing): Promise<OpenObject | undefined> {
    const { catalog, health, mutex, remover, secret } = this.#options;
    const digest = digestOf(secret, written.meta.key);
    const object = await mutex.run(fileName(digest), () => this.#replace(digest, { upload, written, ...placing }));
    this.#begun.delete(upload);
    catalog.evictor.run();
    // The disk was late and the response has already stated that the object is not stored, or a removal came during the rename.
    if (upload.isAbandoned || upload.isRevoked)
      await remover.remove(written.meta.key).catch((error: unknown) => health.note(error, 'write'));
    return object;
  }

  /** Call it when a removal comes into force: uploads that it covers are not stored. */
  revoke(): void {
    const { isRemoved } = this.#options;
    for (const [upload, committedAt] of this.#begun) if (isRemoved({ key: upload.options.key, committedAt })) upload.isRevoked = true;
  }

  /** The caller holds the mutex. Renames the new file and adds its row. The room of the old version is freed after its last reader. */
  async #replace(digest: Digest, { upload, written, condition, fd }: Replacement): Promise<OpenObject | undefined> {
    const { files, directory, clock, window, catalog, opener, remover } = this.#options;
    if (upload.isAbandoned) throw new Error('the upload was abandoned');
    if (upload.isRevoked) throw new RevokedError('a removal covers the upload');
    if (condition !== undefined) await requireCondition(this.#options, digest, condition);
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
    const version = remover.takeOut(catalog.find(digest));
    opener.forget(written.meta.key, fileName(digest));
    const owner = { key: written.meta.key, namespace: ownerOf(written.meta) };
    catalog.commit(digest, owner, { blocks: blocksOf(written.sizeBytes), takenBytes: upload.takenBytes });
    upload.options.charge(-upload.takenBytes);
    window.entered(written.sizeBytes, clock.tick());
    const object = fd === undefined ? undefined : this.#adopt(catalog.find(digest), written, fd);
    if (version !== undefined) void freeRoom({ files, space: catalog.space, ...version }, held);
    else if (held !== undefined) files.close(held);
    return object;
  }

  /** Keeps the file of a new row open. A reader of the growing file holds its room in this way until it ends. */
  #adopt(row: number, { meta, sums, sumOfSums, sizeBytes: fileBytes }: WrittenFile, fd: number): OpenObject {
    const { files, opener } = this.#options;
    const close = (isStored: boolean) => (isStored ? files.closeSync(fd) : files.close(fd));
    const object = new OpenObject({ trailer: { ...meta, sumOfSums, fileBytes }, sums, fd, row, close });
    object.acquire();
    opener.openFiles.add(object);
    return object;
  }
}
