/** A shard's directory: its folders, the form's version, whose it is, and its secret. */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { type DirectoryLock, takeDirectoryLock } from '../../shared/directory-lock.ts';
import { replaceFile } from '../../shared/write-file.ts';
import { folderCount, folderName, objectsFolder, temporaryFolder } from './file-name.ts';
import { formVersion } from './trailer.ts';

/** The directory cannot be used as it is. The message is one line for the operator. */
class DirectoryError extends Error {
  readonly code = 'DIRECTORY';
}

export interface Identity {
  /** True when the directory had none: there is nothing to recover. */
  readonly isNew: boolean;
  readonly form: number;
  /** The shard's name; empty when it was started without one. */
  readonly name: string;
  readonly secret: string;
}

const identityFile = 'kura-cache.json';

/** Makes what is missing and reads the identity. Throws DirectoryError for another form or another shard's directory. Call it with the lock held. */
export async function prepareDirectory(directory: string, name: string): Promise<Identity> {
  await mkdir(temporaryFolder(directory), { recursive: true, mode: 0o700 });
  for (let number = 0; number < folderCount; number += 1) {
    await mkdir(path.join(objectsFolder(directory), folderName(number)), { recursive: true, mode: 0o700 });
  }
  const identity = await readIdentity(directory);
  if (identity === undefined)
    return writeIdentity(directory, { isNew: true, form: formVersion, name, secret: randomBytes(16).toString('hex') });
  if (identity.form !== formVersion)
    throw new DirectoryError(`${directory} has form ${identity.form}, this program reads form ${formVersion}`);
  if (name === '' || identity.name === name) return identity;
  if (identity.name === '') return writeIdentity(directory, { ...identity, name });
  throw new DirectoryError(`${directory} belongs to shard ${identity.name}, not to ${name}`);
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
  // The one file whose loss costs all others, so it alone is worth a sync.
  await replaceFile(file, `${JSON.stringify({ form, name, secret })}\n`, { mode: 0o600, sync: true });
  return identity;
}

/** Takes a shard's directory or throws DirectoryError at once. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const lock = await takeDirectoryLock(directory).catch((error: Error) => {
    throw new DirectoryError(error.message);
  });
  if (lock === undefined) throw new DirectoryError(`another process serves ${directory}`);
  return lock;
}
