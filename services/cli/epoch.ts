/** `kura epoch`: reads a folder through the cache as a training job would, epoch after epoch in a new order. */
import { randomInt } from 'node:crypto';
import { availableBytes } from './capacity.ts';
import { listFiles, type SourceFile } from './files.ts';
import { keyOfFile } from './key-of-file.ts';
import type { ObjectClient } from './object-client.ts';
import { startProgress } from './progress.ts';
import { readThrough } from './read-through.ts';
import { type EpochSummary, EpochTally, possibleHitRatio } from './tally.ts';
import type { Terminal } from './terminal.ts';
import { formatBytes, formatPercent } from './units.ts';

export interface EpochOptions {
  readonly folder: string;
  readonly prefix: string;
  readonly epochs: number;
  readonly workers: number;
  readonly client: ObjectClient;
  /** Where the shards tell their size; empty where nobody knows. */
  readonly shardMetricsUrls: readonly string[];
  readonly terminal: Terminal;
  /** Ends the run; the objects under way are given up and not counted. */
  readonly signal: AbortSignal;
}

/** Resolves with a summary per epoch, the unfinished one included when `signal` aborts. Rejects when the folder cannot be read or nothing answers at the server's address. */
export async function runEpochs(options: EpochOptions): Promise<EpochSummary[]> {
  const { folder, prefix, epochs, client, terminal, signal } = options;
  await client.reach(signal);
  const { files, skipped } = await listFiles(folder);
  if (files.length === 0) throw new Error(`${folder} has no files`);
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  terminal.say(`${files.length} files, ${formatBytes(bytes)}, from ${folder} to ${prefix}/`);
  if (skipped.length > 0)
    terminal.say(`skipped, not a file or a link to one, or a name that is not UTF-8: ${skipped.length}, such as ${skipped[0]}`);
  terminal.say(await outlook(files, options));

  const summaries: EpochSummary[] = [];
  for (let epoch = 1; epoch <= epochs && !signal.aborted; epoch++) {
    const summary = await runEpoch(`epoch ${epoch}`, files, options);
    summaries.push(summary);
    terminal.say(describe(epoch, summary));
    for (const problem of summary.problems) terminal.say(`  ${problem}`);
  }
  return summaries;
}

async function runEpoch(
  label: string,
  files: readonly SourceFile[],
  { prefix, workers, client, terminal, signal }: EpochOptions,
): Promise<EpochSummary> {
  const order = shuffle(files);
  const tally = new EpochTally();
  const progress = startProgress({ label, total: files.length, out: terminal.out, isTerminal: terminal.isTerminal });
  const startedAt = performance.now();
  const work = async (): Promise<void> => {
    for (let file = order.pop(); file !== undefined && !signal.aborted; file = order.pop()) {
      const from = performance.now();
      const outcome = await readThrough(client, { key: keyOfFile(prefix, file.name), file, signal }).catch(() => undefined);
      if (outcome === undefined) return;
      tally.add(outcome, { name: file.name, size: file.size, tookMs: performance.now() - from });
      progress.update(tally.objects, tally.bytes);
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  progress.stop();
  return tally.summarize((performance.now() - startedAt) / 1000);
}

/** Fisher and Yates. */
function shuffle<T>(items: readonly T[]): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = randomInt(last + 1);
    [shuffled[last], shuffled[other]] = [shuffled[other] as T, shuffled[last] as T];
  }
  return shuffled;
}

/** What can be hoped for, so that nobody takes a cache that is too small for one that is broken. */
async function outlook(files: readonly SourceFile[], { shardMetricsUrls }: EpochOptions): Promise<string> {
  const capacity = await availableBytes(shardMetricsUrls);
  if (capacity === undefined) return 'How much the cache can hold is not known here.';
  const needed = files.reduce((sum, { size }) => sum + Math.max(1, Math.ceil(size / 4096)) * 4096, 0);
  const ratio = possibleHitRatio(capacity / needed);
  const room = `The cache holds ${formatBytes(capacity)}, the files need ${formatBytes(needed)}`;
  return ratio === 1
    ? `${room}: a second epoch can hit everything.`
    : `${room}: a second epoch in a new order can hit ${formatPercent(ratio)} (LRU).`;
}

function describe(epoch: number, summary: EpochSummary): string {
  const { hits, misses, failures, failuresByKind, retries, differences, objects, seconds, bytes, hitRatio, p50Ms, p99Ms } = summary;
  const speed = `${Math.round(objects / seconds)} objects/s, ${(bytes / seconds / 1e9).toFixed(2)} GB/s`;
  const times = `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;
  const kinds = failures === 0 ? '' : ` (${[...failuresByKind].map(([kind, count]) => `${count} × ${kind}`).join(', ')})`;
  const repeated = retries === 0 ? '' : `; ${retries} answers of 503 tried again`;
  return `epoch ${epoch}: ${hits} hits (${formatPercent(hitRatio)}), ${misses} misses, ${failures} failures${kinds}, ${differences} differences; ${speed}; ${times}${repeated}`;
}
