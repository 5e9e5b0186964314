/** The `kura` command. */
import { readFileSync } from 'node:fs';
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
  .argument('<dir>', 'the folder', given)
  .option('--local <file>', 'the running local system (default: .kura/local.json in the clone)', given)
  .option('--token-file <file>', "a token to use instead of the local system's own", given)
  .option('--epochs <n>', 'how many epochs', count({ max: 1_000 }), 2)
  .option('--workers <n>', 'how many requests at a time', count({ max: 1_024 }), 8)
  .option('--prefix <key>', 'prefix of the keys, the namespace first (default: vision/<name of the folder>)')
  .addHelpText(
    'after',
    '\nExample: kura epoch node_modules --epochs 3 --workers 16\nEnds with 0 when all was well, 1 when a byte differed or a request failed.',
  )
  .action(epoch);

await program.parseAsync();

async function epoch(
  folder: string,
  options: { local?: string; tokenFile?: string; epochs: number; workers: number; prefix?: string },
): Promise<void> {
  const local = readLocal(options.local ?? path.resolve('.kura/local.json'));
  const prefix = (options.prefix ?? keyOfFile('vision', path.basename(folder))).replace(/\/+$/, '');
  if (!isKey(prefix))
    fail(`--prefix ${JSON.stringify(prefix)} is not printable ASCII of at most 1,024 bytes without spaces and dot segments`);
  const namespace = prefix.split('/', 1)[0];
  const tokenFile = options.tokenFile ?? local.tokens[`${namespace}/trainer`];
  if (tokenFile === undefined)
    fail(
      `no token for namespace ${namespace}: name one with --token-file, or let --prefix begin with the namespace of one of ${Object.keys(local.tokens).join(', ') || 'none'}`,
    );
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  const client = new ObjectClient({ server: local.url, tokenFile: tokenFile as string, connections: options.workers });
  try {
    const summaries = await runEpochs({
      folder,
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
  let text = '';
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') fail((error as Error).message);
    fail(`${file} is not there: start the system with \`npm start\`, or name its file with --local`);
  }
  try {
    const local = JSON.parse(text) as LocalFile;
    if (typeof local.url === 'string' && typeof local.tokens === 'object' && Array.isArray(local.shards)) return local;
  } catch {
    // The complaint below says it all.
  }
  return fail(`${file} is not the local.json of a local system`);
}

/** A path as the user means it: from the folder that npm was called in, not from the one where npm runs scripts. */
function given(file: string): string {
  return path.resolve(process.env.INIT_CWD ?? '', file);
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
