/** Keeps the history in a file, so that a restart does not empty it. */
import { readFileSync } from 'node:fs';
import type { Logger } from '../../shared/log.ts';
import { replaceFile } from '../../shared/write-file.ts';
import type { Minute } from './history.ts';

const format = 1;

interface HistoryFileOptions {
  readonly file: string;
  readonly log: Logger;
}

export class HistoryFile {
  readonly #options: HistoryFileOptions;
  #isFaultKnown = false;

  constructor(options: HistoryFileOptions) {
    this.#options = options;
  }

  /** A file that cannot be used counts as none. */
  read(): readonly Minute[] {
    const { file, log } = this.#options;
    try {
      const content = JSON.parse(readFileSync(file, 'utf8')) as { format?: unknown; minutes?: unknown };
      if (content.format !== format || !Array.isArray(content.minutes) || !content.minutes.every(isMinute))
        throw new Error('it has another format');
      return content.minutes;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn({ err: error, file }, 'cannot read the history; beginning without it');
      return [];
    }
  }

  /** Does not reject. Do not run two at the same time. */
  async write(minutes: readonly Minute[]): Promise<void> {
    const { file, log } = this.#options;
    try {
      await replaceFile(file, JSON.stringify({ format, minutes }));
      this.#isFaultKnown = false;
    } catch (error) {
      if (!this.#isFaultKnown) log.warn({ err: error, file }, 'cannot write the history; a restart will lose it');
      this.#isFaultKnown = true;
    }
  }
}

function isMinute(value: unknown): value is Minute {
  const { minute, counts } = (value ?? {}) as Partial<Minute>;
  return Number.isInteger(minute) && typeof counts === 'object' && Object.values(counts).every(Number.isFinite);
}
