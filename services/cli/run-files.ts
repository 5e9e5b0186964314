/** Does something with each of many files, a few at a time, and tallies what comes of it. */

import type { Read } from './file-transfers.ts';
import type { SourceFile } from './files.ts';
import { startProgress } from './progress.ts';
import { type Summary, Tally } from './tally.ts';
import type { Terminal } from './terminal.ts';

interface FilesRun {
  /** In front of the progress. */
  readonly label: string;
  /** Taken from the end. */
  readonly files: readonly SourceFile[];
  readonly workers: number;
  /** Rejects only when `signal` aborts. */
  readonly work: (file: SourceFile) => Promise<Read>;
  readonly terminal: Terminal;
  /** Ends the run; the files under way are given up and not counted. */
  readonly signal: AbortSignal;
}

export async function runFiles({ label, files, workers, work, terminal, signal }: FilesRun): Promise<Summary> {
  const left = [...files];
  const tally = new Tally();
  const progress = startProgress({ label, total: files.length, terminal });
  const startedAt = performance.now();
  const worker = async (): Promise<void> => {
    for (let file = left.pop(); file !== undefined && !signal.aborted; file = left.pop()) {
      const from = performance.now();
      const read = await work(file).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
      if (read === undefined) return;
      tally.add(read, { name: file.name, size: file.size, tookMs: performance.now() - from });
      progress.update(tally.objects, tally.bytes);
    }
  };
  try {
    await Promise.all(Array.from({ length: workers }, worker));
  } finally {
    progress.stop();
  }
  return tally.summarize((performance.now() - startedAt) / 1000);
}
