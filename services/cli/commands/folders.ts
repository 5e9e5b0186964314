/** `kura warm` and `kura verify`: store or compare whole folders. */
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { formatBytes, formatCount } from '../../shared/format.ts';
import type { ObjectClient } from '../client/object-client.ts';
import { keyOfFile } from '../transfer/file-key.ts';
import { resolveName } from '../transfer/file-name.ts';
import { type TransferResult, verifyFile, warmFile } from '../transfer/file-transfer.ts';
import { listFolder, readList, type SourceFile, sizeOf } from '../transfer/source-files.ts';
import { transferFiles } from '../transfer/transfer-files.ts';
import { describe, isSuccess, type Labels } from '../transfer/transfer-statistics.ts';
import { orUsageError } from '../usage-error.ts';
import { type CommandContext, count, exitStatuses, type RunAction, reportTo } from './command-context.ts';
import { connect, type ServerOptions, withDirectOption, withServerOptions } from './connection.ts';

interface FolderOptions extends ServerOptions {
  readonly workers: number;
  readonly force?: boolean;
}

interface FolderTransfer {
  readonly verb: 'warm' | 'verify';
  readonly source: string;
  readonly keys: string;
  readonly labels: Labels;
  readonly work: (client: ObjectClient, transfer: { key: string; file: SourceFile; signal: AbortSignal }) => Promise<TransferResult>;
}

export function addFolderCommands(program: Command, context: CommandContext, run: RunAction): void {
  withDirectOption(withServerOptions(program.command('warm')))
    .description(
      'store the files of a folder or of a list; skip objects that already exist with the same size, so that an interrupted run can resume',
    )
    .argument('<dir|list>', 'folder, or text file with one file name per line, relative to the folder of the text file')
    .argument('<prefix>', 'prefix of the keys, such as vision/imagenet')
    .option('--workers <n>', 'number of concurrent requests', count({ max: 1_024 }), 8)
    .option('--force', 'also store objects that already exist')
    .addHelpText('after', '\nExample: kura warm /data/imagenet vision/imagenet --workers 32')
    .action((source: string, keys: string, options: FolderOptions) =>
      run(() =>
        transferFolder(
          {
            verb: 'warm',
            source,
            keys,
            labels: { hits: 'already stored', misses: 'stored' },
            work: (client, transfer) => warmFile(client, { ...transfer, force: options.force ?? false }),
          },
          options,
          context,
        ),
      ),
    );
  withServerOptions(program.command('verify'))
    .description('compare cached objects with the files of a folder, byte by byte; missing objects are reported but are not an error')
    .argument('<dir>', 'folder to compare')
    .argument('<prefix>', 'prefix of the keys, such as vision/imagenet')
    .option('--workers <n>', 'number of concurrent requests', count({ max: 1_024 }), 8)
    .addHelpText(
      'after',
      '\nExample: kura verify /data/imagenet vision/imagenet\nExit status: 0 success, 1 bytes differed or requests failed.',
    )
    .action((source: string, keys: string, options: FolderOptions) =>
      run(() =>
        transferFolder(
          { verb: 'verify', source, keys, labels: { hits: 'identical', misses: 'missing', differences: 'differences' }, work: verifyFile },
          options,
          context,
        ),
      ),
    );
}

async function transferFolder(
  { verb, source, keys, labels, work }: FolderTransfer,
  options: FolderOptions,
  context: CommandContext,
): Promise<number> {
  const { workingDirectory, terminal, errorTerminal, signal, command, bytesOf } = context;
  const { client, key } = connect(options, context, { firstKey: keys, connections: options.workers });
  try {
    const prefix = key(keys.replace(/\/+$/, ''));
    await client.checkReachable(signal, reportTo(errorTerminal, verb));
    const print = options.json ? () => undefined : terminal.print;
    const from = resolveName(workingDirectory, bytesOf(source));
    const status = await orUsageError(stat(from));
    const files = verb === 'warm' && status.isFile() ? await readList(from) : await listFolder(from, print);
    print(`${formatCount(files.length)} files, ${formatBytes(sizeOf(files))}, from ${from} to ${prefix}/`);
    const { summary, unreachable } = await transferFiles({
      label: verb,
      files: files.toReversed(),
      workers: options.workers,
      work: (file, stop) => work(client, { key: keyOfFile(prefix, file.name), file, signal: stop }),
      waitReason: () => client.waitReason,
      terminal: options.json ? errorTerminal : terminal,
      signal,
    });
    if (options.json) terminal.print(JSON.stringify(summary));
    for (const line of describe(verb, summary, labels)) print(line);
    if (summary.objects < summary.total) errorTerminal.print(`${verb === 'warm' ? 'Resume' : 'Repeat'} with: ${command}`);
    if (unreachable !== undefined) throw unreachable;
    return isSuccess(summary) ? exitStatuses.success : exitStatuses.failure;
  } finally {
    await client.close();
  }
}
