/**
 * The objects on disk: one JSON line for each change, written before the change is answered, so that a killed process has lost nothing that it said. A machine
 * that loses power may lose the newest lines: they are not synced one by one.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import type { Entry } from './store.ts';

/** The file is written anew when it has grown to this and is twice what is in it. */
const rewriteBytes = 4 * 2 ** 20;
const format = 1;

interface Journal {
  readonly restored: { readonly version: number; readonly entries: readonly Entry[] };
  /** Throws the system's error when the line cannot be written; then nothing of it stays. */
  write(entry: Entry): void;
  close(): void;
}

/** Opens or makes the journal. `current` gives all objects, for writing the file anew. Throws when the file is damaged: that is not an empty cluster. */
export function openJournal(file: string, current: () => { readonly version: number; readonly entries: readonly Entry[] }): Journal {
  const restored = read(file);
  let { descriptor, length } = writeWhole(file, restored);
  let liveBytes = length;
  return {
    restored,
    write: (entry) => {
      if (length > rewriteBytes && length > 2 * liveBytes) {
        const former = descriptor;
        ({ descriptor, length } = writeWhole(file, current()));
        closeSync(former);
        liveBytes = length;
      }
      length = append(descriptor, length, `${JSON.stringify(entry)}\n`);
    },
    close: () => closeSync(descriptor),
  };
}

function append(descriptor: number, at: number, line: string): number {
  const bytes = Buffer.from(line);
  let written = 0;
  try {
    while (written < bytes.length) written += writeSync(descriptor, bytes, written, bytes.length - written, at + written);
  } catch (error) {
    // Half a line followed by a whole one could not be read back.
    ftruncateSync(descriptor, at);
    throw error;
  }
  return at + bytes.length;
}

function writeWhole(
  file: string,
  { version, entries }: { readonly version: number; readonly entries: readonly Entry[] },
): { descriptor: number; length: number } {
  const part = `${file}.part`;
  const descriptor = openSync(part, 'w', 0o600);
  let length = append(descriptor, 0, `${JSON.stringify({ format, version })}\n`);
  for (const entry of entries) length = append(descriptor, length, `${JSON.stringify(entry)}\n`);
  fsyncSync(descriptor);
  renameSync(part, file);
  return { descriptor, length };
}

function read(file: string): { version: number; entries: Entry[] } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { version: 1, entries: [] };
    throw error;
  }
  // What follows the last line end was being written when the process was killed, and was never answered.
  const [head, ...lines] = text.slice(0, text.lastIndexOf('\n')).split('\n');
  const live = new Map<string, Entry>();
  try {
    const header = JSON.parse(head as string) as { format?: number; version: number };
    if (header.format !== format) throw new Error(`its format is ${header.format}, not ${format}`);
    let { version } = header;
    for (const line of lines) {
      const entry = JSON.parse(line) as Entry;
      const place = `${entry.collection}/${entry.key}`;
      if (entry.object === undefined) live.delete(place);
      else live.set(place, entry);
      version = Math.max(version, entry.version);
    }
    return { version, entries: [...live.values()] };
  } catch (error) {
    throw new Error(`${file} is damaged: remove it to start with an empty cluster`, { cause: error });
  }
}
