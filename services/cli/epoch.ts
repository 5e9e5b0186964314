/** `kura epoch`: reads a folder through the cache as a training job would, epoch after epoch in a new order. */
import { randomInt } from 'node:crypto';
import path from 'node:path';
import type { Command } from 'commander';
import { formatBytes, formatPercent } from '../shared/format.ts';
import { connect, count, exits, type Run, type ServerOptions, type Surroundings, withDirectOption, withServerOptions } from './command.ts';
import { readThrough } from './file-transfers.ts';
import { listFolder, type SourceFile, sizeOf } from './files.ts';
import { keyOfFile } from './key-of-file.ts';
import { runFiles } from './run-files.ts';
import { readShards, type ShardSource } from './shard-numbers.ts';
import { describe, isGood, possibleHitRatio } from './tally.ts';

interface EpochOptions extends ServerOptions {
  readonly epochs: number;
  readonly workers: number;
}

export function addEpochCommand(program: Command, surroundings: Surroundings, act: (run: () => Run) => Promise<void>): void {
  withDirectOption(withServerOptions(program.command('epoch')))
    .description(
      'read every file of a folder through the cache, as a training job would: in a new order each epoch, GET first, PUT on a miss, every byte compared',
    )
    .argument('<dir>', 'the folder')
    .option('--epochs <n>', 'how many epochs', count({ max: 1_000 }), 2)
    .option('--workers <n>', 'how many requests at a time', count({ max: 1_024 }), 8)
    .addHelpText(
      'after',
      '\nKeys begin with --prefix, or with vision/ and the name of the folder.\nExample: kura epoch node_modules --epochs 3 --workers 16\nEnds with 0 when all was well, 1 when a byte differed or a request failed.',
    )
    .action((dir: string, options: EpochOptions) => act(() => runEpochs(dir, options, surroundings)));
}

async function runEpochs(dir: string, options: EpochOptions, surroundings: Surroundings): Run {
  const { here, terminal, signal } = surroundings;
  const folder = path.resolve(here, dir);
  const fallbackPrefix = keyOfFile('vision', path.basename(folder));
  const { client, local, prefix } = connect(options, surroundings, { fallbackPrefix, connections: options.workers });
  try {
    await client.reach(signal);
    const say = options.json ? () => undefined : terminal.say;
    const files = await listFolder(folder, say);
    say(`${files.length} files, ${formatBytes(sizeOf(files))}, from ${folder} to ${prefix}/`);
    say(await outlook(files, local?.shards ?? []));
    let status: number = exits.good;
    for (let epoch = 1; epoch <= options.epochs && !signal.aborted; epoch++) {
      const summary = await runFiles({
        label: `epoch ${epoch}`,
        files: shuffle(files),
        workers: options.workers,
        work: (file) => readThrough(client, { key: keyOfFile(prefix, file.name), file, signal }),
        terminal: options.json ? surroundings.errors : terminal,
        signal,
      });
      if (!isGood(summary)) status = exits.bad;
      if (options.json) terminal.say(JSON.stringify({ epoch, ...summary }));
      for (const line of describe(`epoch ${epoch}`, summary)) say(line);
    }
    return status;
  } finally {
    await client.close();
  }
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
async function outlook(files: readonly SourceFile[], sources: readonly ShardSource[]): Promise<string> {
  const limits = (await readShards(sources)).map(({ numbers }) => numbers?.limitBytes);
  if (limits.length === 0 || limits.includes(undefined)) return 'How much the cache can hold is not known here.';
  const capacity = limits.reduce((sum: number, limit) => sum + (limit ?? 0), 0);
  const needed = files.reduce((sum, { size }) => sum + Math.max(1, Math.ceil(size / 4096)) * 4096, 0);
  const ratio = possibleHitRatio(capacity / needed);
  const room = `The cache holds ${formatBytes(capacity)}, the files need ${formatBytes(needed)}`;
  return ratio === 1
    ? `${room}: a second epoch can hit everything.`
    : `${room}: a second epoch in a new order can hit ${formatPercent(ratio)} (LRU).`;
}
