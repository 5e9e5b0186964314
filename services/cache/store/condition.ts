/** The condition of a PUT or DELETE, and the stored version that it looks at. */
import type { Digest } from '../digest.ts';
import { objectPath } from '../disk/file-name.ts';
import { faultKind } from '../disk/files.ts';
import { noRow } from '../index/object-index.ts';
import { CorruptObjectError } from './open-object.ts';
import type { Opener, StoreParts } from './opener.ts';
import { readObject } from './read-object.ts';

interface Version {
  readonly tag: string;
  readonly modifiedSeconds: number;
}

/** Decides whether a change may replace or remove the stored version. `current` is undefined if nothing is stored. */
export type Condition = (current: Version | undefined) => boolean;

/** The condition of a PUT or DELETE does not hold: nothing has changed. */
export class ConditionError extends Error {
  readonly code = 'CONDITION';
}

/** A removal of its prefix came after the start of the upload: it is not stored. */
export class RevokedError extends ConditionError {}

interface VersionParts extends StoreParts {
  readonly opener: Opener;
}

/** The caller holds the mutex. Rejects with ConditionError, or with a disk fault if the stored version cannot be read. */
export async function requireCondition(parts: VersionParts, digest: Digest, condition: Condition): Promise<void> {
  if (!condition(await currentVersion(parts, digest))) throw new ConditionError('the condition does not hold');
}

async function currentVersion(parts: VersionParts, digest: Digest): Promise<Version | undefined> {
  const { catalog, files, buffers, directory, clock, opener, isRemoved } = parts;
  const row = catalog.find(digest);
  if (row === noRow && catalog.space.isCounted) return undefined;
  const open = opener.openFiles.ofRow(row);
  if (open !== undefined) return isRemoved(open) ? undefined : open;
  try {
    const path = objectPath(directory, digest);
    const { object, body } = await readObject({ files, buffers, path, blocks: undefined, tick: clock.tick() });
    body?.give();
    // With a row, `release` closes it as a file that keeps its name.
    object.row = row;
    object.release();
    return isRemoved(object) ? undefined : object;
  } catch (error) {
    // A damaged object counts as missing.
    if (error instanceof CorruptObjectError || faultKind(error) === 'absent') return undefined;
    throw error;
  }
}
