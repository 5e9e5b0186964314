/** The `kura` command. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { LocalFile } from '../local/local-file.ts';
import { isKey } from '../shared/key.ts';
import { runEpochs } from './epoch.ts';
import { keyOfFile } from './key-of-file.ts';
import { ObjectClient } from './object-client.ts';
import { createTerminal } from './terminal.ts';

/** Every object as it should be. */
const exitGood = 0;
/** Bytes differed, or requests failed. */
const exitBad = 1;
/** The command could not begin: arguments, files, a system that does not run. */
const exitUsage = 2;
const exitInterrupted = 130;

const program = new Command('kura').description('kura, a cache for training data').exitOverride((error) => {
  process.exit(error.exitCode === 0 ? exitGood : exitUsage);
});

program
  .command('epoch')
  .description(
    'read every file of a folder through the cache, as a training job would: in a new order each epoch, GET first, PUT on a miss, every byte compared',
  )
  .argument('<dir>', 'the folder')
  .option('--local <file>', 'the running local system', '.kura/local.json')
  .option('--epochs <n>', 'how many epochs', count({ max: 1_000 }), 2)
  .option('--workers <n>', 'how many requests at a time', count({ max: 1_024 }), 8)
  .option('--prefix <key>', 'prefix of the keys, the namespace first (default: vision/<name of the folder>)')
  .addHelpText(
    'after',
    '\nExample: kura epoch node_modules --epochs 3 --workers 16\nEnds with 0 when all was well, 1 when a byte differed or a request failed.',
  )
  .action(epoch);

await program.parseAsync();

async function epoch(dir: string, options: { local: string; epochs: number; workers: number; prefix?: string }): Promise<void> {
  const local = readLocal(options.local);
  const folder = path.resolve(dir);
  const prefix = (options.prefix ?? keyOfFile('vision', path.basename(folder))).replace(/\/+$/, '');
  if (!isKey(prefix))
    fail(`--prefix ${JSON.stringify(prefix)} is not printable ASCII of at most 1,024 bytes without spaces and dot segments`);
  const namespace = prefix.split('/', 1)[0];
  const tokenFile = local.tokens[`${namespace}/trainer`];
  if (tokenFile === undefined)
    fail(`no token for namespace ${namespace}: --prefix begins with one of ${Object.keys(local.tokens).join(', ') || 'none'}`);
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  const client = new ObjectClient({ server: local.url, tokenFile: tokenFile as string, connections: options.workers });
  try {
    const summaries = await runEpochs({
      folder: dir,
      prefix,
      epochs: options.epochs,
      workers: options.workers,
      client,
      shardMetricsUrls: local.shards.map(({ metricsUrl }) => metricsUrl),
      terminal: createTerminal(process.stdout),
      signal: interrupted.signal,
    });
    const isGood = summaries.every(({ failures, differences }) => failures + differences === 0);
    process.exitCode = interrupted.signal.aborted ? exitInterrupted : isGood ? exitGood : exitBad;
  } catch (error) {
    fail((error as Error).message);
  } finally {
    await client.close();
  }
}

function readLocal(file: string): LocalFile {
  if (!existsSync(file)) fail(`${file} is not there: start the system with \`npm start\`, or name its file with --local`);
  return JSON.parse(readFileSync(file, 'utf8')) as LocalFile;
}

function fail(complaint: string): never {
  console.error(`kura: ${complaint}`);
  process.exit(exitUsage);
}

function count({ max }: { max: number }): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < 1 || number > max) throw new InvalidArgumentError(`It is not a whole number from 1 to ${max}.`);
    return number;
  };
}
