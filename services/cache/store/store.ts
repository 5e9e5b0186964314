/** The objects of one directory: open, put, remove, evict. Knows files and room, nothing of HTTP. */
import { randomBytes } from 'node:crypto';
import type { Key } from '../../shared/key.ts';
import type { Counters } from '../counters.ts';
import { type Digest, digestOf, fileName, objectPath, temporaryFolder } from '../disk/file-name.ts';
import { type Files, faultKind } from '../disk/files.ts';
import { type Clock, tickMs } from '../index/clock.ts';
import { DatasetEviction, type EvictionPolicy, LruEviction } from '../index/eviction.ts';
import { Evictor, VictimChoice } from '../index/evictor.ts';
import { Groups, prefixOf, unknownGroup } from '../index/groups.ts';
import { flagUnconfirmed, flagVerified, noRow, ObjectIndex } from '../index/object-index.ts';
import { commonPool } from '../index/pools.ts';
import { type Pool, Shares } from '../index/shares.ts';
import { blocksOf, fileBlockBytes, Space, type SpaceLimits } from '../index/space.ts';
import type { BufferPool } from './buffer-pool.ts';
import { freeRoom, holdLarge } from './free-file.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import { OpenFiles } from './open-files.ts';
import { CorruptObjectError, type OpenObject } from './open-object.ts';
import type { PageCacheWindow } from './page-cache-window.ts';
import { checkFile, dropLoaded, readObject } from './read-object.ts';
import { Upload, type WrittenFile } from './upload.ts';

interface StoreOptions {
  readonly directory: string;
  readonly secret: string;
  readonly limits: SpaceLimits;
  readonly openFilesLimit: number;
  readonly eviction: 'lru' | 'dataset';
  readonly files: Files;
  readonly buffers: BufferPool;
  readonly clock: Clock;
  readonly window: PageCacheWindow;
  readonly counters: Counters;
  /** Told of every fault of the disk and every success after one; disk-health.ts decides what follows. */
  readonly onFault: (error: unknown, operation: 'read' | 'write') => void;
}

type BeginResult =
  /** `maxBytes` is the most that its namespace's share lets one object have. */
  | { readonly kind: 'upload'; readonly upload: Upload; readonly maxBytes: number }
  /** Larger than this shard could ever hold. */
  | { readonly kind: 'too-large' }
  /** Others were promised the room. */
  | { readonly kind: 'no-room' }
  /** Nothing may be given up for it: the body is read, dropped, and answered with `x-kura-stored: no`. */
  | { readonly kind: 'not-kept' };

export class Store {
  readonly index: ObjectIndex;
  readonly groups: Groups;
  readonly space: Space;
  readonly shares: Shares;
  readonly openFiles: OpenFiles;
  readonly evictor: Evictor;
  readonly mutex = new KeyedMutex();
  readonly options: StoreOptions;
  /** In the names of temporary files, so that those of an earlier process are told apart. */
  readonly runId = randomBytes(4).toString('hex');
  /** Opens under way by file name; a change of the file takes its entry away, so that nobody is given the old version afterwards. */
  readonly #opening = new Map<string, { promise: Promise<OpenObject | undefined>; isCurrent: boolean }>();
  readonly #eviction: EvictionPolicy;
  readonly #victims: VictimChoice;
  #temporaryNumber = 0;

  constructor(options: StoreOptions) {
    this.options = options;
    this.index = new ObjectIndex({ capacity: options.limits.maxFiles });
    this.groups = new Groups(
      (group) => this.index.groupCount(group) === 0,
      (group, { namespace }) => this.index.assign(group, this.shares.poolOf(namespace).number),
    );
    this.#eviction = options.eviction === 'dataset' ? new DatasetEviction(this.index, this.groups) : new LruEviction(this.index);
    this.space = new Space({
      limits: options.limits,
      onWait: () => this.evictor.run(),
      stored: () => ({ bytes: this.index.totalBlocks * fileBlockBytes, files: this.index.count }),
    });
    this.shares = new Shares({ index: this.index, groups: this.groups, usable: () => this.space.usable });
    this.#victims = new VictimChoice({ index: this.index, shares: this.shares, eviction: this.#eviction });
    this.openFiles = new OpenFiles({ limit: options.openFilesLimit });
    this.evictor = new Evictor({
      index: this.index,
      space: this.space,
      chooseVictim: (isShort) => this.#victims.choose(isShort, options.clock.tick()),
      evict: (row) => this.#evict(row),
    });
  }

  /** The object if it is open already. The caller must `acquire` it before it waits for anything. */
  openNow(key: Key): OpenObject | undefined {
    return this.openFiles.get(key);
  }

  /** Opens an object, or just that version of it, for one reader, who must `release` it; undefined is a miss. Faults of the disk are misses too, told to `onFault`. */
  async open(key: Key, version?: string): Promise<OpenObject | undefined> {
    const object = this.openFiles.get(key) ?? (await this.#openCold(key));
    if (version !== undefined && version !== object?.tag) return undefined;
    object?.acquire();
    return object;
  }

  /** Whether the object is expected to be in the page cache, so that reading it does not wait for the disk. */
  isWarm(object: OpenObject): boolean {
    const { row } = object;
    if (row === noRow) return object.isJustRead;
    const { window } = this.options;
    const isRecent = window.isWarm(this.index.tick(row)) && this.index.hasFlag(row, flagVerified);
    return object.isJustRead || (isRecent && object.length <= window.windowBytes / 2);
  }

  /** Notes a use; true when the object was warm before it. */
  use(object: OpenObject): boolean {
    const isWarm = this.isWarm(object);
    const { row } = object;
    if (row === noRow) return isWarm;
    const { clock, window } = this.options;
    const tick = clock.tick();
    if (!isWarm || object.isJustRead) {
      window.entered(object.length, tick);
      this.index.setFlag(row, flagVerified, true);
      object.isJustRead = false;
    }
    this.#eviction.read(row, tick);
    this.index.touch(row, tick);
    return isWarm;
  }

  begin(put: { key: Key; length: number | undefined; contentType: string; namespace: string; maxShare: number | undefined }): BeginResult {
    const { files, buffers, directory, clock } = this.options;
    const { limits } = this.space;
    const length = put.length ?? 0;
    const pool = this.shares.learn(put.namespace, put.maxShare);
    const maxBytes = this.shares.limitBytes(pool);
    if (length > Math.min(limits.maxBytes / 2, maxBytes)) return { kind: 'too-large' };
    if (!this.space.promise(length)) return { kind: 'no-room' };
    if (!this.#victims.hasShareFor(pool, length, clock.tick()) || !this.evictor.canMakeRoom(length)) {
      this.space.unpromise(length);
      return { kind: 'not-kept' };
    }
    this.#temporaryNumber += 1;
    const temporaryPath = `${temporaryFolder(directory)}/${this.runId}-${this.#temporaryNumber}.part`;
    const charge = (bytes: number) => this.#charge(pool, bytes);
    return { kind: 'upload', upload: new Upload({ ...put, temporaryPath, files, buffers, space: this.space, charge }), maxBytes };
  }

  /** Gives a finished upload its name: after this every GET sees it. Rejects with the disk's fault, nothing changed. */
  async commit(upload: Upload): Promise<WrittenFile> {
    const written = await upload.finish(this.options.clock.commitTime());
    const digest = this.#digest(written.meta.key);
    const name = fileName(digest);
    try {
      await this.mutex.run(name, () => this.#replace(digest, upload, written));
    } catch (error) {
      await upload.discard();
      throw error;
    }
    this.evictor.run();
    return written;
  }

  /** True when there was such an object. It is gone for every later GET. */
  async remove(key: Key): Promise<boolean> {
    const digest = this.#digest(key);
    const name = fileName(digest);
    const row = this.index.find(digest.a, digest.b, digest.c);
    if (row === noRow && this.space.isCounted) {
      await this.mutex.settled(name);
      return false;
    }
    // Takes the row out before it waits, while the open version can still be found by it.
    const removed = this.#removeFile(digest, row);
    this.#forgetOpen(key, name);
    return removed;
  }

  /** An object that was being read turned out to be damaged: it is looked at again and taken out. Does not reject. */
  async drop(object: OpenObject): Promise<void> {
    const digest = this.#digest(object.key);
    this.#forgetOpen(object.key, fileName(digest));
    await this.dropIfDamaged(digest).catch((error: unknown) => this.options.onFault(error, 'read'));
  }

  /**
   * Reads the file of a digest wholly and removes it when its bytes are not what was written; what is right tells its group. In turn, so that it is never another version
   * that is removed. Rejects with the disk's fault.
   */
  async dropIfDamaged(digest: Digest): Promise<void> {
    const { files, buffers, directory, counters } = this.options;
    const path = objectPath(directory, digest);
    await this.mutex.run(fileName(digest), async () => {
      const row = this.index.find(digest.a, digest.b, digest.c);
      const checked = await checkFile({ files, buffers, path, blocks: undefined });
      if (checked.kind === 'absent') return this.#forgetRow(digest);
      if (checked.kind === 'whole') {
        if (row !== noRow && row === this.index.find(digest.a, digest.b, digest.c)) this.#learnGroup(checked.key, checked.namespace, row);
        return;
      }
      counters.corruptObjects += 1;
      const version = this.#takeOut(this.index.find(digest.a, digest.b, digest.c));
      await files.unlink(path);
      if (version !== undefined) void freeRoom({ files, space: this.space, ...version }, undefined);
    });
  }

  #digest(key: Key): Digest {
    return digestOf(this.options.secret, key);
  }

  async #openCold(key: Key, triesLeft = 2): Promise<OpenObject | undefined> {
    const digest = this.#digest(key);
    const row = this.index.find(digest.a, digest.b, digest.c);
    if (row === noRow) this.#eviction.missed(prefixOf(key), digest, this.options.clock.tick());
    if (row === noRow && this.space.isCounted) return undefined;
    const name = fileName(digest);
    let opening = this.#opening.get(name);
    if (opening === undefined) {
      const started = { promise: Promise.resolve<OpenObject | undefined>(undefined), isCurrent: true };
      started.promise = this.#openFile(key, digest, started);
      this.#opening.set(name, started);
      opening = started;
    }
    const object = await opening.promise;
    if (this.#opening.get(name) === opening) this.#opening.delete(name);
    // The file was replaced while it was being opened: the new one is there.
    if (object === undefined && !opening.isCurrent && triesLeft > 0) return this.#openCold(key, triesLeft - 1);
    return object;
  }

  async #openFile(key: Key, digest: Digest, opening: { readonly isCurrent: boolean }): Promise<OpenObject | undefined> {
    const name = fileName(digest);
    if (this.mutex.isBusy(name)) await this.mutex.settled(name);
    const object = await this.#readFile(digest, opening);
    if (object === undefined) return undefined;
    // Whoever waits for this promise acquires in a microtask; until then the object must not close.
    setImmediate(() => {
      dropLoaded(object, this.options.buffers);
      object.release();
    });
    // Replaced or removed meanwhile: nobody is given a version that its room's account has let go of.
    if (object.key !== key || !opening.isCurrent) return undefined;
    const row = this.index.find(digest.a, digest.b, digest.c);
    if (row === noRow) return this.space.isCounted ? undefined : object;
    object.row = row;
    this.#learnGroup(key, object.namespace, row);
    object.acquire();
    this.openFiles.add(object);
    return object;
  }

  async #readFile(digest: Digest, opening: { readonly isCurrent: boolean }): Promise<OpenObject | undefined> {
    const { files, buffers, directory, onFault } = this.options;
    const path = objectPath(directory, digest);
    try {
      const row = this.index.find(digest.a, digest.b, digest.c);
      // A snapshot's row may have an older size than the file.
      const isSure = row !== noRow && !this.index.hasFlag(row, flagUnconfirmed);
      return await readObject({ files, buffers, path, blocks: isSure ? this.index.blocks(row) : undefined });
    } catch (error) {
      if (error instanceof CorruptObjectError) {
        // Sizes differ too when a new version came between: that one is not damaged.
        if (opening.isCurrent) await this.dropIfDamaged(digest).catch((fault: unknown) => onFault(fault, 'read'));
        return undefined;
      }
      const kind = faultKind(error);
      if (kind === 'absent') {
        if (opening.isCurrent && !this.mutex.isBusy(fileName(digest))) this.#forgetRow(digest);
      } else onFault(error, 'read');
      if (kind === 'descriptors') this.openFiles.shrink(this.openFiles.size >> 1);
      return undefined;
    }
  }

  /** A whole, checked file tells what a row found by a scan lacks. */
  #learnGroup(key: Key, namespace: string, row: number): void {
    this.index.setFlag(row, flagUnconfirmed, false);
    if (this.index.group(row) !== unknownGroup) return;
    this.index.regroup(row, this.groups.number({ namespace, prefix: prefixOf(key) }));
  }

  /** The file that a row promises is not there: somebody else removed it. */
  #forgetRow(digest: Digest): void {
    const row = this.index.find(digest.a, digest.b, digest.c);
    if (row !== noRow) this.index.remove(row);
  }

  #forgetOpen(key: Key, name: string): void {
    const opening = this.#opening.get(name);
    if (opening !== undefined) opening.isCurrent = false;
    this.#opening.delete(name);
    this.openFiles.remove(this.openFiles.get(key));
  }

  /** In turn: the new file takes the name and a row, the old one's room is freed when its readers are done. */
  async #replace(digest: Digest, upload: Upload, written: WrittenFile): Promise<void> {
    const { files, directory, clock, window } = this.options;
    const path = objectPath(directory, digest);
    const row = this.index.find(digest.a, digest.b, digest.c);
    const held = row === noRow ? undefined : await holdLarge(files, path, this.#bytesOf(row)).catch(() => undefined);
    try {
      await files.rename(upload.options.temporaryPath, path);
    } catch (error) {
      if (held !== undefined) files.close(held);
      throw error;
    }
    // From here on without a wait: nobody sees the new file and the old row together.
    const { key, namespace } = written.meta;
    const old = this.index.find(digest.a, digest.b, digest.c);
    const version = this.#takeOut(old);
    this.#forgetOpen(key, fileName(digest));
    this.space.settle(upload.takenBytes, 1);
    upload.options.charge(-upload.takenBytes);
    const group = this.groups.number({ namespace, prefix: prefixOf(key) });
    this.index.insert({ ...digest, blocks: blocksOf(written.sizeBytes), tick: clock.tick(), group, flags: flagVerified });
    window.entered(written.sizeBytes, clock.tick());
    if (version !== undefined) void freeRoom({ files, space: this.space, ...version }, held);
    else if (held !== undefined) files.close(held);
  }

  #charge(pool: Pool, bytes: number): void {
    if (pool.number === commonPool) return;
    pool.takenBytes += bytes;
    if (bytes > 0 && this.shares.isOver(pool)) this.evictor.run();
  }

  #bytesOf(row: number): number {
    return this.index.blocks(row) * fileBlockBytes;
  }

  /** Takes a row out of the index; its room counts until it is given back. */
  #takeOut(row: number): { bytes: number; object: OpenObject | undefined } | undefined {
    if (row === noRow) return undefined;
    const bytes = this.#bytesOf(row);
    const object = this.openFiles.ofRow(row);
    this.openFiles.remove(object);
    // The row's number may soon be another's.
    if (object !== undefined) object.row = noRow;
    this.index.remove(row);
    this.space.doom(bytes, 1);
    return { bytes, object };
  }

  /** Removes the file of a digest, and its row if it has one; false when there was no file. Rejects with the disk's fault: the room then stays taken, as it is. */
  async #removeFile(digest: Digest, row: number): Promise<boolean> {
    const { files, directory } = this.options;
    const path = objectPath(directory, digest);
    const version = this.#takeOut(row);
    let held: number | undefined;
    const isGone = await this.mutex.run(fileName(digest), async () => {
      // A PUT that was under way took the name meanwhile and freed the old version by that: the name is its own now.
      if (this.index.find(digest.a, digest.b, digest.c) !== noRow) return true;
      held = version === undefined ? undefined : await holdLarge(files, path, version.bytes).catch(() => undefined);
      try {
        await files.unlink(path);
        return true;
      } catch (error) {
        if (faultKind(error) === 'absent') return false;
        throw error;
      }
    });
    if (version === undefined) return isGone;
    if (!isGone) {
      this.space.forget(version.bytes, 1);
      return false;
    }
    const freed = freeRoom({ files, space: this.space, ...version }, held);
    // A slow reader may keep the old version for minutes: nobody waits for that. Otherwise the room is there when this is over.
    if (version.object?.isClosed !== false) await freed;
    return true;
  }

  async #evict(row: number): Promise<void> {
    const { clock, counters, onFault } = this.options;
    counters.evictedObjects += 1;
    counters.evictedBytes += this.#bytesOf(row);
    counters.lastVictimIdleSeconds = ((clock.tick() - this.index.tick(row)) * tickMs) / 1000;
    try {
      await this.#removeFile(this.index.digest(row), row);
    } catch (error) {
      onFault(error, 'write');
    }
  }
}
