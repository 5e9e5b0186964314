/** The stand-in's objects on disk: one JSON file, replaced whole, soon after each change. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Snapshot } from './store.ts';

/** Joins bursts; what a killed process loses is at most this much of the newest changes. */
const delayMs = 50;

export interface Persistence {
  readonly restored: Snapshot | undefined;
  /** Something changed: saves soon. */
  touch(): void;
  /** Saves now. */
  flush(): void;
}

/** Reads the file; one that is damaged is an error, not an empty cluster. */
export function openPersistence(file: string, current: () => Snapshot): Persistence {
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    writeFileSync(`${file}.part`, JSON.stringify(current()), { mode: 0o600 });
    renameSync(`${file}.part`, file);
  };
  return {
    restored: read(file),
    touch: () => {
      timer ??= setTimeout(flush, delayMs);
    },
    flush,
  };
}

function read(file: string): Snapshot | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as Snapshot;
  } catch (error) {
    throw new Error(`${file} is damaged: remove it to start with an empty cluster`, { cause: error });
  }
}
