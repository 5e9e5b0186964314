/** Transfers many files with a limited number of workers and summarizes the outcomes. */

import { startProgress } from '../output/progress.ts';
import type { Terminal } from '../output/terminal.ts';
import type { TransferResult } from './file-transfer.ts';
import type { SourceFile } from './source-files.ts';
import { type Summary, TransferStatistics } from './transfer-statistics.ts';

interface FilesTransfer {
  /** Printed in front of the progress. */
  readonly label: string;
  /** The last file is transferred first. */
  readonly files: readonly SourceFile[];
  readonly workers: number;
  /** Rejects only when `signal` aborts. */
  readonly work: (file: SourceFile) => Promise<TransferResult>;
  readonly terminal: Terminal;
  /** Stops the transfer. Files in progress are abandoned and not counted. */
  readonly signal: AbortSignal;
}

export async function transferFiles({ label, files, workers, work, terminal, signal }: FilesTransfer): Promise<Summary> {
  const remaining = [...files];
  const statistics = new TransferStatistics();
  const progress = startProgress({ label, total: files.length, terminal });
  const startedAt = performance.now();
  const worker = async (): Promise<void> => {
    for (let file = remaining.pop(); file !== undefined && !signal.aborted; file = remaining.pop()) {
      const from = performance.now();
      const result = await work(file).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
      if (result === undefined) return;
      statistics.add(result, { name: file.name, size: file.size, tookMs: performance.now() - from });
      progress.update(statistics.objects, statistics.bytes);
    }
  };
  try {
    await Promise.all(Array.from({ length: workers }, worker));
  } finally {
    progress.stop();
  }
  return statistics.summarize((performance.now() - startedAt) / 1000);
}
