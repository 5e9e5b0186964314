/** The directory of a shard: its folders, format version, shard name and secret. */
import { randomBytes } from 'node:crypto';
import { access, mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { type DirectoryLock, takeDirectoryLock } from '../../shared/directory-lock.ts';
import type { Logger } from '../../shared/log.ts';
import { replaceFile } from '../../shared/write-file.ts';
import { folderCount, folderName, objectsFolder, parseFileName, temporaryFolder } from './file-name.ts';

/** The directory cannot be used. The message is one line for the operator. */
class DirectoryError extends Error {
  readonly code = 'DIRECTORY';
}

export interface Identity {
  /** True if the directory had no identity: there are no objects to recover. */
  readonly isNew: boolean;
  /** The format version. */
  readonly form: number;
  /** Name of the shard; empty if it was started without a name. */
  readonly name: string;
  readonly secret: string;
}

const identityFile = 'kura-cache.json';
const formatVersion = 1;

/** Throws DirectoryError if the directory does not contain the file `marker`. */
export async function requireMarker(directory: string, marker: string): Promise<void> {
  await access(path.join(directory, marker)).catch((error: NodeJS.ErrnoException) => {
    throw new DirectoryError(
      `${directory} has no file ${marker} (${error.code}): its disk is probably not mounted; mount it, or create the file once on the disk`,
    );
  });
}

/** Creates missing folders and returns the identity. Throws DirectoryError if the shard cannot use them. The caller holds the lock. */
export async function prepareDirectory(directory: string, name: string): Promise<Identity> {
  await makeFolders(directory);
  const identity = await readIdentity(directory);
  if (identity === undefined && (await hasObjects(directory)))
    throw new DirectoryError(
      `${directory} has objects but no ${identityFile}; without its secret no object can be found: restore it, or empty the directory`,
    );
  if (identity === undefined)
    return writeIdentity(directory, { isNew: true, form: formatVersion, name, secret: randomBytes(16).toString('hex') });
  if (identity.form !== formatVersion)
    throw new DirectoryError(
      `${directory} has format version ${identity.form}; this program supports version ${formatVersion}: use another directory, or empty it`,
    );
  if (name === '' || identity.name === name) return identity;
  if (identity.name === '') return writeIdentity(directory, { ...identity, name });
  throw new DirectoryError(`${directory} belongs to shard ${identity.name}, not to ${name}`);
}

/** Creates the missing folders. */
async function makeFolders(directory: string): Promise<void> {
  await mkdir(temporaryFolder(directory), { recursive: true, mode: 0o700 });
  for (let number = 0; number < folderCount; number += 1) {
    await mkdir(path.join(objectsFolder(directory), folderName(number)), { recursive: true, mode: 0o700 });
  }
}

/** Creates folders again that another program has removed. Only one repair runs at a time. */
export class FolderRepair {
  readonly #directory: string;
  readonly #marker: string | undefined;
  readonly #log: Logger;
  #running: Promise<void> | undefined;

  constructor({ directory, marker }: { directory: string; marker: string | undefined }, log: Logger) {
    this.#directory = directory;
    this.#marker = marker;
    this.#log = log;
  }

  start(): void {
    if (this.#running !== undefined) return;
    this.#log.error('a folder of the shard is missing; creating it again');
    this.#running = this.#repair()
      .catch((error: unknown) => this.#log.error({ err: error }, 'the folders could not be created'))
      .finally(() => {
        this.#running = undefined;
      });
  }

  /** The folders are not missing when their disk is: it may have been unmounted. */
  async #repair(): Promise<void> {
    if (this.#marker !== undefined) await requireMarker(this.#directory, this.#marker);
    await makeFolders(this.#directory);
  }

  /** Resolves when no repair is running. */
  async settled(): Promise<void> {
    await this.#running;
  }
}

async function hasObjects(directory: string): Promise<boolean> {
  for (let number = 0; number < folderCount; number += 1) {
    const names = await readdir(path.join(objectsFolder(directory), folderName(number)));
    if (names.some((name) => parseFileName(name) !== undefined)) return true;
  }
  return false;
}

async function readIdentity(directory: string): Promise<Identity | undefined> {
  const file = path.join(directory, identityFile);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { form, name, secret } = JSON.parse(text) as Identity;
    if (typeof form === 'number' && typeof name === 'string' && /^[0-9a-f]{32}$/.test(secret)) return { isNew: false, form, name, secret };
  } catch {}
  throw new DirectoryError(`${file} is not readable; without its secret no object can be found: restore it, or empty the directory`);
}

async function writeIdentity(directory: string, identity: Identity): Promise<Identity> {
  const file = path.join(directory, identityFile);
  const { form, name, secret } = identity;
  // Without this file no object can be found, so it is the only file that is synced.
  await replaceFile(file, `${JSON.stringify({ form, name, secret })}\n`, { mode: 0o600, sync: true });
  return identity;
}

/** Locks the directory of a shard. Throws DirectoryError at once if another process holds the lock. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const lock = await takeDirectoryLock(directory).catch((error: Error) => {
    throw new DirectoryError(error.message);
  });
  if (lock === undefined) throw new DirectoryError(`another process serves ${directory}`);
  return lock;
}
