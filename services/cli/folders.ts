/** `kura warm` and `kura verify`: whole folders. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { formatBytes } from '../shared/format.ts';
import { connect, count, exits, type Run, type ServerOptions, type Surroundings, withDirectOption, withServerOptions } from './command.ts';
import { type Read, verifyFile, warmFile } from './file-transfers.ts';
import { listFolder, readList, type SourceFile, sizeOf } from './files.ts';
import { keyOfFile } from './key-of-file.ts';
import type { ObjectClient } from './object-client.ts';
import { runFiles } from './run-files.ts';
import { describe, isGood } from './tally.ts';
import { orUsageError } from './usage-error.ts';

interface FolderOptions extends ServerOptions {
  readonly workers: number;
  readonly force?: boolean;
}

interface FolderRun {
  readonly verb: 'warm' | 'verify';
  readonly source: string;
  readonly keys: string;
  readonly words: { readonly hits: string; readonly misses: string };
  readonly work: (client: ObjectClient, transfer: { key: string; file: SourceFile; signal: AbortSignal }) => Promise<Read>;
}

export function addFolderCommands(program: Command, surroundings: Surroundings, act: (run: () => Run) => Promise<void>): void {
  withDirectOption(withServerOptions(program.command('warm')))
    .description(
      'put the files of a folder, or of a list, into the cache; what is there in the same size is left alone, so that it can be resumed',
    )
    .argument('<dir|list>', 'a folder, or a text file that names a file a line, relative to its own folder')
    .argument('<prefix>', 'what the keys begin with, such as vision/imagenet')
    .option('--workers <n>', 'how many requests at a time', count({ max: 1_024 }), 8)
    .option('--force', 'put what is there too')
    .addHelpText('after', '\nExample: kura warm /data/imagenet vision/imagenet --workers 32')
    .action((source: string, keys: string, options: FolderOptions) =>
      act(() =>
        runFolder(
          {
            verb: 'warm',
            source,
            keys,
            words: { hits: 'there already', misses: 'stored' },
            work: (client, transfer) => warmFile(client, { ...transfer, force: options.force ?? false }),
          },
          options,
          surroundings,
        ),
      ),
    );
  withServerOptions(program.command('verify'))
    .description('compare what the cache has of a folder with its files, byte for byte; what it does not have is told and is no fault')
    .argument('<dir>')
    .argument('<prefix>', 'what the keys begin with')
    .option('--workers <n>', 'how many requests at a time', count({ max: 1_024 }), 8)
    .addHelpText('after', '\nExample: kura verify /data/imagenet vision/imagenet\nEnds with 1 when a byte differed or a request failed.')
    .action((source: string, keys: string, options: FolderOptions) =>
      act(() =>
        runFolder(
          { verb: 'verify', source, keys, words: { hits: 'the same', misses: 'not there' }, work: verifyFile },
          options,
          surroundings,
        ),
      ),
    );
}

async function runFolder({ verb, source, keys, words, work }: FolderRun, options: FolderOptions, surroundings: Surroundings): Run {
  const { here, terminal, errors, signal } = surroundings;
  const { client, key } = connect(options, surroundings, { firstKey: keys, connections: options.workers });
  try {
    const prefix = key(keys.replace(/\/+$/, ''));
    await client.reach(signal);
    const say = options.json ? () => undefined : terminal.say;
    const from = path.resolve(here, source);
    const status = await orUsageError(stat(from));
    const files = verb === 'warm' && status.isFile() ? await readList(from) : await listFolder(from, say);
    say(`${files.length} files, ${formatBytes(sizeOf(files))}, from ${from} to ${prefix}/`);
    const summary = await runFiles({
      label: verb,
      files: files.toReversed(),
      workers: options.workers,
      work: (file) => work(client, { key: keyOfFile(prefix, file.name), file, signal }),
      terminal: options.json ? errors : terminal,
      signal,
    });
    if (options.json) terminal.say(JSON.stringify(summary));
    for (const line of describe(verb, summary, words)) say(line);
    return isGood(summary) ? exits.good : exits.bad;
  } finally {
    await client.close();
  }
}
