/**
 * Stores each object in one file. The file is replaced atomically before the API responds, so a killed process loses no acknowledged
 * change. A power failure may lose the newest changes, because single changes are not synced.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { StoredObject } from './object.ts';

/** An object and its place; the object is undefined when it was removed. */
export interface Entry {
  readonly collection: string;
  readonly key: string;
  readonly object: StoredObject | undefined;
}

/** Throws the system's error when the change cannot be written. The previous file then stays. */
export function writeEntry(folder: string, entry: Entry): void {
  // A key may be longer than the maximum length of a file name.
  const file = path.join(folder, `${createHash('sha256').update(`${entry.collection}/${entry.key}`).digest('hex')}.json`);
  if (entry.object === undefined) {
    rmSync(file, { force: true });
    return;
  }
  writeFileSync(`${file}.part`, JSON.stringify(entry), { mode: 0o600 });
  renameSync(`${file}.part`, file);
}

/** Creates the folder if necessary. Throws when a file is damaged: without that object, the cluster would be a different one. */
export function readEntries(folder: string): Entry[] {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  return files.map((name) => {
    const file = path.join(folder, name);
    try {
      return JSON.parse(readFileSync(file, 'utf8')) as Entry;
    } catch (error) {
      throw new Error(`${file} is damaged: remove ${folder} to start with an empty cluster`, { cause: error });
    }
  });
}
