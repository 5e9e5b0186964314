/**
 * Removes all objects under a prefix from all shards, and repeats that for shards that were away. The shards keep the removals, and a new
 * console learns them from there. The id of a removal holds its time and a signature, so each replica of the console can follow it, and
 * nobody can make one without the right to remove.
 */

import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { RemovalProgress, ShardRemoval } from '../../shared/datasets-api.ts';
import type { Logger } from '../../shared/log.ts';
import { replaceFile } from '../../shared/write-file.ts';
import { each } from './each-shard.ts';
import { type KeptRemoval, type ShardClient, type ShardPlace, ShardProblem } from './shard-client.ts';

interface RemovalsOptions {
  readonly client: Pick<ShardClient, 'remove' | 'removals'>;
  /** All shards that are listed now. */
  readonly shards: () => readonly ShardPlace[];
  /** Whether a shard has answered lately. */
  readonly answers: (hashKey: string) => boolean;
  readonly keys: () => readonly KeyObject[] | undefined;
  /** Keeps what has to be repeated; undefined: in memory only. */
  readonly file: string | undefined;
  /** In milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: Logger;
}

interface Removal {
  readonly prefix: string;
  /** Milliseconds since the epoch. */
  readonly before: number;
  /** The shards that have removed everything. */
  readonly done: Map<string, { readonly removed: number; readonly bytes: number }>;
}

const maxRemovals = 256;
/** Of them, those that the shards keep from other consoles. New removals must find room beside them. */
const maxLearned = 128;
/** A shard that returns later than this keeps its objects. */
const keptMs = 30 * 24 * 3_600_000;
/** An id has the time and the signature. */
const [timeBytes, signatureBytes] = [6, 12];
const format = 1;
/** Without a credential, nobody checks anything. */
const noKey = createSecretKey(Buffer.from('unsigned'));

export class Removals {
  readonly #options: RemovalsOptions;
  /** By id. */
  readonly #removals: Map<string, Removal>;
  #writing: Promise<void> = Promise.resolve();
  /** Shards whose removals this process has read. */
  readonly #learned = new Set<string>();

  constructor(options: RemovalsOptions) {
    this.#options = options;
    this.#removals = readSaved(options);
  }

  /** Resolves when each shard that answers has stored the removal. Undefined if too many removals wait for shards. */
  async start(prefix: string): Promise<RemovalProgress | undefined> {
    this.#forgetEnded(maxRemovals - 1);
    if (this.#removals.size >= maxRemovals) return undefined;
    const removal = { prefix, before: this.#options.now(), done: new Map() };
    const id = this.#idOf(removal);
    this.#removals.set(id, removal);
    await this.#save();
    return await this.#advance(id, removal);
  }

  /** Undefined for an id that is not of a removal of this prefix. */
  async progress(prefix: string, id: string): Promise<RemovalProgress | undefined> {
    const before = this.#beforeOf(prefix, id);
    if (before === undefined) return undefined;
    const known = this.#removals.get(id);
    // Of another replica, or of an earlier process.
    const removal = known ?? { prefix, before, done: new Map() };
    if (known === undefined && this.#removals.size < maxRemovals) this.#removals.set(id, removal);
    return await this.#advance(id, removal);
  }

  /** Repeats the removals at shards that have not confirmed them. Does not reject. */
  async repeat(): Promise<void> {
    await this.#learn();
    this.#forgetEnded(maxRemovals - 1);
    for (const [id, removal] of this.#removals) {
      if (!this.#isConfirmed(removal)) await this.#advance(id, removal);
    }
  }

  /**
   * Reads the removals that the shards keep, once for each shard. So a removal also reaches a shard that was away if the console that began
   * it is gone.
   */
  async #learn(): Promise<void> {
    const { client, shards, answers, log } = this.#options;
    const listed = new Set(shards().map(({ hashKey }) => hashKey));
    for (const hashKey of this.#learned) if (!listed.has(hashKey)) this.#learned.delete(hashKey);
    const unread = shards().filter(({ hashKey }) => !this.#learned.has(hashKey) && answers(hashKey));
    const learned = new Map<string, Removal>();
    await each(unread, async (shard) => {
      try {
        for (const kept of await client.removals(shard)) this.#note(shard.hashKey, kept, learned);
        this.#learned.add(shard.hashKey);
      } catch (error) {
        // A release without this list. Any other fault is tried again in the next round.
        if (error instanceof ShardProblem) this.#learned.add(shard.hashKey);
      }
    });
    const open = [...learned].filter(([, removal]) => !this.#isConfirmed(removal)).sort(([, one], [, other]) => one.before - other.before);
    this.#forgetEnded(Math.max(0, maxLearned - open.length));
    const room = Math.max(0, maxLearned - this.#removals.size);
    // The newest ones count.
    for (const [id, removal] of open.slice(Math.max(0, open.length - room))) this.#removals.set(id, removal);
    if (open.length > room) log.warn({ dropped: open.length - room }, 'too many removals wait for shards; the oldest are not repeated');
  }

  /** Adds what one shard keeps to a known removal, or else to `learned`. */
  #note(hashKey: string, { prefix, before, state, removed, bytes }: KeptRemoval, learned: Map<string, Removal>): void {
    if (!isTime(before) || before < this.#options.now() - keptMs) return;
    const id = this.#idOf({ prefix, before });
    const removal = this.#removals.get(id) ?? learned.get(id) ?? { prefix, before, done: new Map() };
    if (!this.#removals.has(id)) learned.set(id, removal);
    if (state === 'done') removal.done.set(hashKey, { removed, bytes });
  }

  /** Whether all present shards have removed everything. */
  #isConfirmed({ done }: Removal): boolean {
    return this.#options.shards().every(({ hashKey }) => done.has(hashKey));
  }

  async #advance(id: string, { prefix, before, done }: Removal): Promise<RemovalProgress> {
    const { client, shards } = this.#options;
    const size = done.size;
    const states = await each(shards(), async (shard): Promise<ShardRemoval> => {
      const known = done.get(shard.hashKey);
      if (known !== undefined) return { shard: shard.hashKey, state: 'done', ...known };
      try {
        const { state, removed, bytes } = await client.remove(shard, { prefix, before });
        if (state === 'done') done.set(shard.hashKey, { removed, bytes });
        return { shard: shard.hashKey, state: state === 'done' ? 'done' : 'pending', removed, bytes };
      } catch (error) {
        if (error instanceof ShardProblem) return { shard: shard.hashKey, state: 'pending', code: error.code };
        return { shard: shard.hashKey, state: 'away' };
      }
    });
    if (done.size > size) await this.#save();
    const sum = (name: 'removed' | 'bytes'): number => states.reduce((total, state) => total + (state[name] ?? 0), 0);
    const isDone = states.length > 0 && states.every(({ state }) => state === 'done');
    return {
      removal: id,
      prefix,
      before: new Date(before).toISOString(),
      state: isDone ? 'done' : 'pending',
      removed: sum('removed'),
      bytes: sum('bytes'),
      shards: states,
    };
  }

  /** Forgets what is too old. Of the removals above the limit, it forgets those that are confirmed, the oldest first. */
  #forgetEnded(limit: number): void {
    const { now } = this.#options;
    for (const [id, { before }] of this.#removals) if (before < now() - keptMs) this.#removals.delete(id);
    for (const [id, removal] of this.#removals) {
      if (this.#removals.size <= limit) return;
      if (this.#isConfirmed(removal)) this.#removals.delete(id);
    }
  }

  #idOf({ prefix, before }: Pick<Removal, 'prefix' | 'before'>, key = this.#options.keys()?.[0] ?? noKey): string {
    const time = Buffer.alloc(timeBytes);
    time.writeUIntBE(before, 0, timeBytes);
    const signature = createHmac('sha256', key).update(`removal\n${before}\n${prefix}`, 'latin1').digest();
    return Buffer.concat([time, signature.subarray(0, signatureBytes)]).toString('base64url');
  }

  #beforeOf(prefix: string, id: string): number | undefined {
    const bytes = Buffer.from(id, 'base64url');
    if (bytes.length !== timeBytes + signatureBytes) return undefined;
    const before = bytes.readUIntBE(0, timeBytes);
    const given = Buffer.from(id);
    const keys = this.#options.keys() ?? [noKey];
    const isGood = keys.some((key) => {
      const right = Buffer.from(this.#idOf({ prefix, before }, key));
      return given.length === right.length && timingSafeEqual(given, right);
    });
    return isGood ? before : undefined;
  }

  #save(): Promise<void> {
    const { file, log } = this.#options;
    if (file === undefined) return Promise.resolve();
    this.#writing = this.#writing.then(async () => {
      const removals = [...this.#removals].map(([id, { prefix, before, done }]) => ({ id, prefix, before, done: [...done] }));
      await replaceFile(file, JSON.stringify({ format, removals })).catch((error: Error) =>
        log.warn({ err: error, file }, 'cannot write the removals; after a restart they come from the shards only'),
      );
    });
    return this.#writing;
  }
}

/** A file that cannot be used counts as none. */
function readSaved({ file, log }: RemovalsOptions): Map<string, Removal> {
  if (file === undefined) return new Map();
  try {
    const saved = JSON.parse(readFileSync(file, 'utf8')) as {
      format: number;
      removals: { id: string; prefix: string; before: number; done: [] }[];
    };
    if (saved.format !== format) throw new Error('it has another format');
    return new Map(saved.removals.map(({ id, prefix, before, done }) => [id, { prefix, before, done: new Map(done) }]));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      log.warn({ err: error, file }, 'cannot read the removals; they come from the shards only');
    return new Map();
  }
}

function isTime(before: number): boolean {
  return Number.isInteger(before) && before >= 0 && before < 2 ** (8 * timeBytes);
}
