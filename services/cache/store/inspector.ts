/** Checks the files of objects against the disk. It removes damaged files, and files that a removal covers. */
import { isDeepStrictEqual } from 'node:util';
import { type Digest, digestOf } from '../digest.ts';
import { fileName, objectPath } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';
import { type ObjectMeta, ownerOf, type Trailer } from '../disk/trailer.ts';
import { flagUnconfirmed, noRow } from '../index/object-index.ts';
import { freeRoom } from './free-file.ts';
import { CorruptObjectError } from './open-object.ts';
import { checkFile } from './read-object.ts';
import { readTrailer } from './read-trailer.ts';
import type { Remover, RemoverOptions } from './remover.ts';

interface InspectorOptions extends RemoverOptions {
  readonly remover: Remover;
  /** Called for each object that a removal has removed. */
  readonly onRemoved: (version: ObjectMeta, bytes: number) => void;
}

/** What a look at the trailer of a file has found. */
export type Inspected =
  | { readonly kind: 'stored'; readonly meta: ObjectMeta }
  /** A removal covers it: it is removed now, or another request removes it. */
  | { readonly kind: 'removed' }
  | { readonly kind: 'absent' };

export class Inspector {
  readonly #options: InspectorOptions;

  constructor(options: InspectorOptions) {
    this.#options = options;
  }

  /**
   * Reads the trailer of a file and completes its row. Removes the file if a removal covers it or if it is damaged. Rejects with a disk
   * fault.
   */
  async inspect(digest: Digest): Promise<Inspected> {
    const { mutex, isRemoved } = this.#options;
    try {
      const meta = await this.#readMeta(digest, () => !mutex.isBusy(fileName(digest)));
      if (!isRemoved(meta)) return { kind: 'stored', meta };
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

  /** Removes the file if it is damaged. Does not reject. */
  async dropDamaged(digest: Digest): Promise<void> {
    await this.dropIfDamaged(digest).catch((error: unknown) => this.#options.health.note(error, 'read'));
  }

  /**
   * Reads the whole file of a digest and removes it if it is damaged. An undamaged file completes its row. It holds the mutex, so that it
   * never removes another version. Rejects with a disk fault.
   */
  async dropIfDamaged(digest: Digest): Promise<void> {
    const { files, buffers, directory, counters, catalog, clock, mutex, opener, remover } = this.#options;
    const path = objectPath(directory, digest);
    await mutex.run(fileName(digest), async () => {
      const row = catalog.find(digest);
      const checked = await checkFile({ files, buffers, path, blocks: undefined, tick: clock.tick() });
      if (checked.kind === 'absent') return opener.forgetFile(digest);
      if (checked.kind === 'whole' && isDeepStrictEqual(digestOf(this.#options.secret, checked.key), digest)) {
        if (row !== noRow && row === catalog.find(digest)) catalog.learnOwner(row, checked);
        return;
      }
      counters.corruptObjects += 1;
      const version = remover.takeOut(catalog.find(digest));
      try {
        await files.unlink(path);
      } catch (error) {
        if (version !== undefined) remover.putBack(version);
        throw error;
      }
      if (version !== undefined) void freeRoom({ files, space: catalog.space, ...version }, undefined);
    });
  }

  /** `isUnchanged`: no other request is replacing or removing the file. */
  async #readMeta(digest: Digest, isUnchanged: () => boolean): Promise<Trailer> {
    const { files, directory, catalog, secret } = this.#options;
    const row = catalog.find(digest);
    const isSame = () => row !== noRow && row === catalog.find(digest);
    const blocks = row !== noRow && !catalog.index.hasFlag(row, flagUnconfirmed) ? catalog.index.blocks(row) : undefined;
    const isStored = () => isSame() && isUnchanged();
    const meta = await readTrailer({ files, path: objectPath(directory, digest), blocks, isStored });
    if (!isDeepStrictEqual(digestOf(secret, meta.key), digest)) throw new CorruptObjectError('the file has the name of another key');
    if (isSame()) catalog.learnOwner(row, { ...meta, namespace: ownerOf(meta) });
    return meta;
  }

  /** The file has gone, or is removed if it is really damaged: it also seems damaged if a new version has replaced it. */
  async #handleBadFile(error: unknown, digest: Digest): Promise<Inspected> {
    if (error instanceof CorruptObjectError) await this.dropIfDamaged(digest);
    else if (faultKind(error) !== 'absent') throw error;
    return { kind: 'absent' };
  }

  /** It holds the mutex, so that it never removes a newer version. Rejects with CorruptObjectError or a disk fault. */
  async #removeCovered(digest: Digest): Promise<Inspected> {
    const { catalog, isRemoved, onRemoved, mutex, opener, remover } = this.#options;
    const row = catalog.find(digest);
    const { meta, removed } = await mutex.run(fileName(digest), async () => {
      const meta = await this.#readMeta(digest, () => true);
      // Another request has removed the row and waits for the mutex to remove the file.
      const isTaken = row !== noRow && catalog.find(digest) === noRow;
      if (isTaken || !isRemoved(meta)) return { meta, removed: undefined };
      const version = remover.takeOut(catalog.find(digest));
      opener.forget(meta.key, fileName(digest));
      const unlinked = await remover.unlink(digest, version);
      if (unlinked.isGone) onRemoved(meta, version?.bytes ?? 0);
      return { meta, removed: { version, ...unlinked } };
    });
    if (removed === undefined) return isRemoved(meta) ? { kind: 'removed' } : { kind: 'stored', meta };
    await remover.free(removed);
    return { kind: 'removed' };
  }
}
