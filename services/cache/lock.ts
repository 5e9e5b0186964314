import { type DirectoryLock, takeDirectoryLock } from '../shared/directory-lock.ts';
import { DirectoryError } from './directory.ts';

/** Takes a shard's directory or throws DirectoryError at once. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const lock = await takeDirectoryLock(directory).catch((error: Error) => {
    throw new DirectoryError(error.message);
  });
  if (lock === undefined) throw new DirectoryError(`another process serves ${directory}`);
  return lock;
}
