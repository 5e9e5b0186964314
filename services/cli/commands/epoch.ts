/** `kura epoch`: reads a folder through the cache as a training job does, in a new order each epoch. */
import { randomInt } from 'node:crypto';
import { type Command, Option } from 'commander';
import type { LocalFile } from '../../local/local-file.ts';
import { formatBytes, formatCount, formatPercent } from '../../shared/format.ts';
import { readShards, type ShardSource } from '../client/shard-numbers.ts';
import { keyOfFile } from '../transfer/file-key.ts';
import { baseName, resolveName } from '../transfer/file-name.ts';
import { readAside, readThrough } from '../transfer/file-transfer.ts';
import { listFolder, type SourceFile, sizeOf } from '../transfer/source-files.ts';
import { transferFiles } from '../transfer/transfer-files.ts';
import { describe, expectedHitRatio, isSuccess } from '../transfer/transfer-statistics.ts';
import { type CommandContext, count, exitStatuses, type RunAction, reportTo } from './command-context.ts';
import { connect, type ServerOptions, withDirectOption, withServerOptions } from './connection.ts';

/** The shards' file system stores a file in blocks of this size. */
const fileBlockBytes = 4096;

const asideLabels = { hits: 'hits', misses: 'misses', differences: 'differences' };
const throughLabels = { ...asideLabels, misses: 'fetched from the origin' };

interface EpochOptions extends ServerOptions {
  readonly epochs: number;
  readonly workers: number;
  readonly through?: boolean;
}

export function addEpochCommand(program: Command, context: CommandContext, run: RunAction): void {
  withDirectOption(withServerOptions(program.command('epoch')))
    .description(
      'read a folder through the cache as a training job does: shuffle each epoch, GET each file, PUT it on a miss, compare every byte',
    )
    .argument('<dir>', 'folder to read')
    .option('--epochs <n>', 'number of epochs', count({ max: 1_000 }), 2)
    .addOption(
      new Option('--through', 'let kura fetch each miss from the origin of its key, and store nothing from here').conflicts('direct'),
    )
    .option('--workers <n>', 'number of concurrent requests', count({ max: 1_024 }), 8)
    .addHelpText(
      'after',
      `
The default prefix is vision/ and the name of the folder. With --through, it is that of the local origin with this folder.
Examples: kura epoch node_modules --epochs 3 --workers 16
          kura epoch /data/imagenet --through --prefix _shared/imagenet
Exit status: 0 success, 1 bytes differed or requests failed.`,
    )
    .action((dir: string, options: EpochOptions) => run(() => runEpochs(dir, options, context)));
}

async function runEpochs(dir: string, options: EpochOptions, context: CommandContext): Promise<number> {
  const { workingDirectory, terminal, errorTerminal, signal, command, bytesOf } = context;
  const folder = resolveName(workingDirectory, bytesOf(dir));
  const fallbackPrefix = (running: LocalFile | undefined): string => {
    const origin = options.through ? running?.origins?.find(({ source }) => source === folder) : undefined;
    return origin?.prefix ?? keyOfFile('vision', baseName(folder));
  };
  const { client, local, prefix } = connect(options, context, { fallbackPrefix, connections: options.workers });
  const [read, labels] = options.through ? [readThrough, throughLabels] : [readAside, asideLabels];
  try {
    await client.checkReachable(signal, reportTo(errorTerminal, 'epoch'));
    const print = options.json ? () => undefined : terminal.print;
    const files = await listFolder(folder, print);
    print(`${formatCount(files.length)} files, ${formatBytes(sizeOf(files))}, from ${folder} to ${prefix}/`);
    print(await forecast(files, local?.shards ?? []));
    let status: number = exitStatuses.success;
    for (let epoch = 1; epoch <= options.epochs && !signal.aborted; epoch++) {
      const { summary, unreachable } = await transferFiles({
        label: `epoch ${epoch}`,
        files: shuffle(files),
        workers: options.workers,
        work: (file, stop) => read(client, { key: keyOfFile(prefix, file.name), file, signal: stop }),
        waitReason: () => client.waitReason,
        terminal: options.json ? errorTerminal : terminal,
        signal,
      });
      if (!isSuccess(summary)) status = exitStatuses.failure;
      if (options.json) terminal.print(JSON.stringify({ epoch, ...summary }));
      for (const line of describe(`epoch ${epoch}`, summary, labels)) print(line);
      if (summary.objects < summary.total) errorTerminal.print(`Repeat with: ${command}`);
      if (unreachable !== undefined) throw unreachable;
    }
    return status;
  } finally {
    await client.close();
  }
}

/** The Fisher-Yates shuffle. */
function shuffle<T>(items: readonly T[]): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = randomInt(last + 1);
    [shuffled[last], shuffled[other]] = [shuffled[other] as T, shuffled[last] as T];
  }
  return shuffled;
}

/** Predicts the hit ratio, so that a cache that is too small does not look broken. */
async function forecast(files: readonly SourceFile[], sources: readonly ShardSource[]): Promise<string> {
  const limits = (await readShards(sources)).map(({ numbers }) => numbers?.limitBytes);
  if (limits.length === 0 || limits.includes(undefined)) return 'The capacity of the cache is unknown.';
  const capacity = limits.reduce((sum: number, limit) => sum + (limit ?? 0), 0);
  const needed = files.reduce((sum, { size }) => sum + Math.max(1, Math.ceil(size / fileBlockBytes)) * fileBlockBytes, 0);
  const ratio = expectedHitRatio(capacity / needed);
  const sizes = `The cache holds ${formatBytes(capacity)}, the files need ${formatBytes(needed)}`;
  return ratio === 1
    ? `${sizes}: the second epoch can hit every file.`
    : `${sizes}: the second epoch can hit ${formatPercent(ratio)} (LRU, shuffled).`;
}
