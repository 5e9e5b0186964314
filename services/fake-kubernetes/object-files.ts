/**
 * The objects on disk: one file each, replaced whole before the API answers, so a killed process loses nothing that it acknowledged. A power failure may lose
 * the newest changes: they are not synced one by one.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { StoredObject } from './object.ts';

/** An object in its place, or an undefined one where it was removed. */
export interface Entry {
  readonly collection: string;
  readonly key: string;
  readonly object: StoredObject | undefined;
}

/** Throws the system's error when the change cannot be written; the file before it stays. */
export function writeEntry(folder: string, entry: Entry): void {
  // A key may be longer than a file name.
  const file = path.join(folder, `${createHash('sha256').update(`${entry.collection}/${entry.key}`).digest('hex')}.json`);
  if (entry.object === undefined) {
    rmSync(file, { force: true });
    return;
  }
  writeFileSync(`${file}.part`, JSON.stringify(entry), { mode: 0o600 });
  renameSync(`${file}.part`, file);
}

/** Creates the folder where there is none. Throws when a file is damaged: the rest alone would be another cluster. */
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
