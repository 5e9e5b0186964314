/** Opens objects for reading. It returns an object that is already open, or opens the file once for all requests that wait for it. */
import type { Key } from '../../shared/key.ts';
import { type Digest, digestOf } from '../digest.ts';
import { within } from '../disk/deadline.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import { fileName, objectPath } from '../disk/file-name.ts';
import { type Files, faultKind } from '../disk/files.ts';
import type { ObjectMeta } from '../disk/trailer.ts';
import type { Catalog } from '../index/catalog.ts';
import type { Clock } from '../index/clock.ts';
import { flagUnconfirmed, noRow } from '../index/object-index.ts';
import { type BufferPool, BufferTimeoutError } from './buffer-pool.ts';
import type { KeyedMutex } from './keyed-mutex.ts';
import type { LoadedBodies } from './loaded-bodies.ts';
import { OpenFiles } from './open-files.ts';
import { CorruptObjectError, type OpenObject } from './open-object.ts';
import { readObject } from './read-object.ts';

/** The parts that a store and its opener share. */
export interface StoreParts {
  readonly directory: string;
  readonly secret: string;
  readonly catalog: Catalog;
  readonly maxOpenFiles: number;
  readonly files: Files;
  readonly buffers: BufferPool;
  readonly loaded: LoadedBodies;
  readonly health: FaultSink;
  readonly clock: Clock;
  /** Whether a removal covers this version of an object. Such a version counts as missing. */
  readonly isRemoved: (version: Pick<ObjectMeta, 'key' | 'committedAt'>) => boolean;
}

interface OpenerOptions extends StoreParts {
  readonly mutex: KeyedMutex;
  /** Called for an object whose body was read together with its trailer. */
  readonly onBodyRead: (object: OpenObject) => void;
  /** Removes a damaged file. Does not reject. */
  readonly dropDamaged: (digest: Digest) => Promise<void>;
  /** Removes the file if a removal covers it. Does not reject. */
  readonly dropRemoved: (digest: Digest) => Promise<void>;
}

/** An open in progress. After its file was replaced or removed, it is not current, and no reader may get the version that it finds. */
interface Opening {
  promise: Promise<OpenObject | undefined>;
  isCurrent: boolean;
}

export class Opener {
  readonly openFiles: OpenFiles;
  readonly #options: OpenerOptions;
  /** By file name. */
  readonly #openings = new Map<string, Opening>();

  constructor(options: OpenerOptions) {
    this.#options = options;
    this.openFiles = new OpenFiles({ max: options.maxOpenFiles });
  }

  /** Returns an object that the caller must `release`. Resolves with undefined for a miss. A disk fault is reported and is a miss. */
  async open(key: Key, limitMs: number): Promise<OpenObject | undefined> {
    const known = this.openFiles.get(key);
    // Before any await: an eviction may close the object in the next microtask.
    known?.acquire();
    if (known !== undefined) return known;
    try {
      // A late object stays open for the next request.
      const object = await within(limitMs, this.#openCold(key));
      object?.acquire();
      return object;
    } catch (error) {
      this.#options.health.note(error, 'read');
      return undefined;
    }
  }

  /** Call it when the file of a key is replaced or removed: the next `open` reads the disk again. */
  forget(key: Key, name: string): void {
    this.#expire(name);
    this.openFiles.remove(this.openFiles.get(key));
  }

  /** Call it when no request may get the object any more. The store still finds it by its row. */
  hide(object: OpenObject, name: string): void {
    this.#expire(name);
    this.openFiles.hide(object);
  }

  /** Call it when another program has removed the file of a digest. */
  forgetFile(digest: Digest): void {
    const { catalog } = this.#options;
    const object = this.openFiles.ofRow(catalog.find(digest));
    this.openFiles.remove(object);
    // The index may reuse the row number for another object.
    if (object !== undefined) object.row = noRow;
    catalog.forget(digest);
  }

  #expire(name: string): void {
    const opening = this.#openings.get(name);
    if (opening !== undefined) opening.isCurrent = false;
    this.#openings.delete(name);
  }

  async #openCold(key: Key, triesLeft = 2): Promise<OpenObject | undefined> {
    const { catalog, secret } = this.#options;
    const digest = digestOf(secret, key);
    const row = catalog.find(digest);
    if (row === noRow) catalog.missed(key, digest);
    if (row === noRow && catalog.space.isCounted) return undefined;
    const name = fileName(digest);
    const opening = this.#openings.get(name) ?? this.#start(key, digest, name);
    const object = await opening.promise;
    if (this.#openings.get(name) === opening) this.#openings.delete(name);
    // The file was replaced during the open: open the new version.
    if (object === undefined && !opening.isCurrent && triesLeft > 0) return this.#openCold(key, triesLeft - 1);
    return object;
  }

  #start(key: Key, digest: Digest, name: string): Opening {
    const opening: Opening = { promise: Promise.resolve(undefined), isCurrent: true };
    opening.promise = this.#openFile(key, digest, opening);
    this.#openings.set(name, opening);
    return opening;
  }

  async #openFile(key: Key, digest: Digest, opening: Readonly<Opening>): Promise<OpenObject | undefined> {
    const { catalog, loaded, mutex } = this.#options;
    const name = fileName(digest);
    if (mutex.isBusy(name)) await mutex.settled(name);
    const object = await this.#readFile(digest, opening);
    if (object === undefined) return undefined;
    // Requests that wait for this promise acquire the object in a microtask; until then it must not close.
    setImmediate(() => {
      loaded.drop(object);
      object.release();
    });
    // The file is that of another key, for example after a manual rename.
    if (object.key !== key) void this.#options.dropDamaged(digest);
    // If the file was replaced or removed in the meantime, no reader may get a version whose room no longer counts.
    if (object.key !== key || !opening.isCurrent) return undefined;
    if (this.#options.isRemoved(object)) {
      void this.#options.dropRemoved(digest);
      return undefined;
    }
    const row = catalog.find(digest);
    if (row === noRow) return catalog.space.isCounted ? undefined : object;
    const open = this.openFiles.ofRow(row);
    // A fill or a reader has kept this version open. Its room counts while it is open, so there must be only one of it.
    if (open !== undefined) {
      open.acquire();
      setImmediate(() => open.release());
      return open;
    }
    object.row = row;
    catalog.learnOwner(row, object);
    object.acquire();
    this.openFiles.add(object);
    return object;
  }

  async #readFile(digest: Digest, opening: Readonly<Opening>): Promise<OpenObject | undefined> {
    const { catalog, files, buffers, directory, loaded, clock, onBodyRead } = this.#options;
    const row = catalog.find(digest);
    // A row from a snapshot may have the size of an older version.
    const isSure = row !== noRow && !catalog.index.hasFlag(row, flagUnconfirmed);
    const blocks = isSure ? catalog.index.blocks(row) : undefined;
    try {
      const { object, body } = await readObject({ files, buffers, path: objectPath(directory, digest), blocks, tick: clock.tick() });
      if (body === undefined) return object;
      loaded.add(object, body);
      onBodyRead(object);
      return object;
    } catch (error) {
      await this.#handleFault(error, digest, opening);
      return undefined;
    }
  }

  async #handleFault(error: unknown, digest: Digest, opening: Readonly<Opening>): Promise<void> {
    const { mutex, health, dropDamaged } = this.#options;
    if (error instanceof CorruptObjectError) {
      // The size also differs if a new version has replaced the file. That version is not damaged.
      if (opening.isCurrent) await dropDamaged(digest);
      return;
    }
    if (error instanceof BufferTimeoutError) return;
    const kind = faultKind(error);
    if (kind !== 'absent') health.note(error, 'read');
    else if (opening.isCurrent && !mutex.isBusy(fileName(digest))) this.forgetFile(digest);
    if (kind === 'descriptors') this.openFiles.shrink(this.openFiles.size >> 1);
  }
}
