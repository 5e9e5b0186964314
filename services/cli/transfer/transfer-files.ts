/** Transfers many files with a limited number of workers and summarizes the outcomes. */

import { UnreachableError } from '../client/connection-fault.ts';
import { startProgress } from '../output/progress.ts';
import type { Terminal } from '../output/terminal.ts';
import type { TransferResult } from './file-transfer.ts';
import { type SourceFile, sizeOf } from './source-files.ts';
import { type Summary, TransferStatistics } from './transfer-statistics.ts';

interface FilesTransfer {
  /** Printed in front of the progress. */
  readonly label: string;
  /** The last file is transferred first. */
  readonly files: readonly SourceFile[];
  readonly workers: number;
  /** Rejects with UnreachableError and when its signal aborts. */
  readonly work: (file: SourceFile, signal: AbortSignal) => Promise<TransferResult>;
  /** Why the workers wait; empty if they do not. */
  readonly waitReason: () => string;
  readonly terminal: Terminal;
  /** Stops the transfer. Files in progress are abandoned and not counted. */
  readonly signal: AbortSignal;
}

interface FilesResult {
  readonly summary: Summary;
  /** The server stopped responding, which ended the transfer. */
  readonly unreachable: UnreachableError | undefined;
}

export async function transferFiles({ label, files, workers, work, waitReason, terminal, signal }: FilesTransfer): Promise<FilesResult> {
  const remaining = [...files];
  const statistics = new TransferStatistics();
  const gone = new AbortController();
  const stop = AbortSignal.any([signal, gone.signal]);
  const total = { objects: files.length, bytes: sizeOf(files) };
  const progress = startProgress({ label, total, waitReason, terminal });
  const startedAt = performance.now();
  const worker = async (): Promise<void> => {
    for (let file = remaining.pop(); file !== undefined && !stop.aborted; file = remaining.pop()) {
      const from = performance.now();
      const result = await work(file, stop).catch((error: unknown) => {
        if (error instanceof UnreachableError) gone.abort(error);
        if (!stop.aborted) throw error;
      });
      if (result === undefined) return;
      statistics.add(result, { name: String(file.name), size: file.size, tookMs: performance.now() - from });
      progress.update({ objects: statistics.objects, bytes: statistics.bytes });
    }
  };
  try {
    await Promise.all(Array.from({ length: workers }, worker));
  } finally {
    progress.stop();
  }
  const summary = statistics.summarize({ total: files.length, seconds: (performance.now() - startedAt) / 1000 });
  return { summary, unreachable: gone.signal.reason as UnreachableError | undefined };
}
