/** `kura ls`, `du`, `datasets` and `rm -r`: everything under a prefix. */

import { createInterface } from 'node:readline/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import type { DatasetUse, RemovalProgress } from '../../shared/datasets-api.ts';
import { formatBytes, formatCount, formatDuration, formatPercent } from '../../shared/format.ts';
import { DatasetsClient } from '../client/datasets-client.ts';
import { formatTable } from '../output/table.ts';
import { UsageError } from '../usage-error.ts';
import { type CommandContext, count, exitStatuses, quoted, type RunAction, reportTo } from './command-context.ts';
import { connect, type ServerOptions, withServerOptions } from './connection.ts';

/** A client for the prefix that the user typed. */
interface PrefixAction {
  readonly client: DatasetsClient;
  readonly prefix: string;
  /** The end of `prefix` that the user types again, encoded. */
  readonly typed: string;
}

const sorts = ['bytes', 'hits', 'idle'] as const;
interface DatasetsOptions extends ServerOptions {
  readonly sort: (typeof sorts)[number];
  readonly limit: number;
}

export interface RemoveOptions extends ServerOptions {
  readonly yes?: boolean;
  readonly removal?: string;
}

const pollMs = 1_000;
/** If only shards are missing that are away or could not begin, the command waits for them this long. */
const maxAwayMs = 10_000;
const exitNote = `
Exit status: 0 success, 1 the request failed, or the result is not complete: a shard does not answer or counts its
files, or (du, datasets) the data set of some objects is not known or lies only partly under the prefix.`;

export function addDatasetCommands(program: Command, context: CommandContext, run: RunAction): void {
  const onPrefix = (typed: string, options: ServerOptions, action: (on: PrefixAction) => Promise<number>): Promise<void> =>
    run(() => withPrefix(typed, options, context, action));
  withServerOptions(program.command('ls'))
    .description('list the objects under a prefix, in no order')
    .argument('[prefix]', 'beginning of names up to a /, such as vision/run-7', '')
    .addHelpText('after', exitNote)
    .action((typed: string, options: ServerOptions) => onPrefix(typed, options, (on) => list(on, context, options)));
  withServerOptions(program.command('du'))
    .description('show how many objects and bytes are under a prefix, and their hit ratio')
    .argument('[prefix]', 'beginning of names up to a /', '')
    .addHelpText('after', exitNote)
    .action((typed: string, options: ServerOptions) => onPrefix(typed, options, (on) => showUse(on, context, options)));
  withServerOptions(program.command('datasets'))
    .description('show the data sets under a prefix: size, hit ratio and idle time. A data set is the first four segments of its keys')
    .argument('[prefix]', 'beginning of names up to a /', '')
    .addOption(new Option('--sort <by>', 'the largest, the lowest hit ratio or the longest unused first').choices(sorts).default('bytes'))
    .option('--limit <n>', 'number of data sets', count({ max: 1_000 }), 50)
    .addHelpText('after', exitNote)
    .action((typed: string, options: DatasetsOptions) => onPrefix(typed, options, (on) => showDatasets(on, context, options)));
}

/** Runs an action on the prefix that the user typed, which gets a slash at its end. */
export async function withPrefix(
  typed: string,
  options: ServerOptions,
  context: CommandContext,
  action: (on: PrefixAction) => Promise<number>,
): Promise<number> {
  const connection = connect(options, context, { firstKey: typed.replaceAll('/', '') === '' ? '_all' : typed });
  await connection.client.close();
  const { server, tokenFile } = connection;
  const client = new DatasetsClient({ server, tokenFile, signal: context.signal });
  try {
    const prefix = connection.prefixOf(typed);
    const own = connection.prefix === '' ? prefix : prefix.slice(connection.prefix.length + 1);
    return await action({ client, prefix, typed: own === '' ? '/' : own });
  } finally {
    await client.close();
  }
}

async function list(
  { client, prefix }: PrefixAction,
  { terminal, errorTerminal }: CommandContext,
  { json }: ServerOptions,
): Promise<number> {
  const pages = client.keys(prefix);
  let step = await pages.next();
  for (; step.done !== true; step = await pages.next()) {
    const lines = step.value.map((entry) =>
      json === true ? JSON.stringify(entry) : `${formatBytes(entry.size).padStart(10)}  ${entry.modified}  ${entry.key}`,
    );
    if (lines.length > 0) terminal.print(lines.join('\n'));
  }
  return reportIncomplete('ls', step.value, errorTerminal);
}

async function showUse({ client, prefix }: PrefixAction, context: CommandContext, { json }: ServerOptions): Promise<number> {
  const totals = await client.totals(prefix);
  if (json === true) context.terminal.print(JSON.stringify(totals));
  else context.terminal.print(formatTable([useHead, useRow(totals)]));
  return reportIncomplete('du', totals.complete, context.errorTerminal);
}

async function showDatasets(
  { client, prefix }: PrefixAction,
  context: CommandContext,
  { json, sort, limit }: DatasetsOptions,
): Promise<number> {
  const totals = await client.totals(prefix);
  const rows = [...totals.children].sort((one, other) => rank(one, sort) - rank(other, sort)).slice(0, limit);
  if (json === true) context.terminal.print(JSON.stringify(rows));
  else context.terminal.print(rows.length === 0 ? `nothing is stored under ${prefix}` : formatTable([useHead, ...rows.map(useRow)]));
  return reportIncomplete('datasets', totals.complete, context.errorTerminal);
}

/** The lowest rank comes first. */
function rank({ bytes, hits, misses, lastUsed }: DatasetUse, sort: DatasetsOptions['sort']): number {
  if (sort === 'bytes') return -bytes;
  if (sort === 'hits') return hits + misses === 0 ? 0 : hits / (hits + misses);
  return lastUsed === null ? 0 : Date.parse(lastUsed);
}

const useHead = ['prefix', 'objects', 'stored', 'hit ratio', 'unused for'];

function useRow({ prefix, objects, bytes, hits, misses, lastUsed }: DatasetUse): string[] {
  const idle = lastUsed === null ? '–' : formatDuration(Math.max(0, Date.now() - Date.parse(lastUsed)) / 1000);
  const ratio = hits + misses === 0 ? '–' : formatPercent(hits / (hits + misses));
  return [prefix === '' ? '(all)' : prefix, formatCount(objects), formatBytes(bytes), ratio, idle];
}

/** Asks on a terminal, removes everything under the prefix, and waits for the shards. */
export async function removePrefix(
  { client, prefix, typed }: PrefixAction,
  context: CommandContext,
  { yes, removal, json }: RemoveOptions,
): Promise<number> {
  const { terminal, errorTerminal } = context;
  if (removal === undefined && yes !== true && !(await isConfirmed(client, prefix, context))) {
    errorTerminal.print('kura rm: nothing was removed');
    return exitStatuses.failure;
  }
  const begun = removal === undefined ? await client.remove(prefix) : await client.progress(prefix, removal);
  const ended = await untilDone(begun, { client, prefix, context });
  if (json === true) terminal.print(JSON.stringify(ended));
  else terminal.print(describeRemoval(ended));
  if (ended.state === 'done') return exitStatuses.success;
  errorTerminal.print(`kura rm: the removal continues. Follow it with: kura rm -r ${quoted(typed)} --raw --removal ${ended.removal}`);
  return exitStatuses.failure;
}

async function isConfirmed(client: DatasetsClient, prefix: string, { stdin, errorTerminal, signal }: CommandContext): Promise<boolean> {
  if ((stdin as { isTTY?: boolean }).isTTY !== true)
    throw new UsageError('standard input is not a terminal: confirm the removal with --yes');
  // The right to remove does not include the right to list.
  const size = await client.totals(prefix).then(
    ({ objects, bytes }) => `${formatCount(objects)} objects, ${formatBytes(bytes)}`,
    () => 'an unknown number of objects',
  );
  const ask = createInterface({ input: stdin, output: errorTerminal.out });
  try {
    const answer = await ask.question(`Remove ${prefix === '' ? 'everything' : `everything under ${prefix}`} (${size})? [y/N] `, {
      signal,
    });
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    ask.close();
  }
}

async function untilDone(
  begun: RemovalProgress,
  { client, prefix, context }: { client: DatasetsClient; prefix: string; context: CommandContext },
): Promise<RemovalProgress> {
  const { signal, errorTerminal } = context;
  const report = reportTo(errorTerminal, 'rm');
  let progress = begun;
  let awaySince: number | undefined;
  let said = '';
  while (progress.state !== 'done') {
    const isPending = progress.shards.some(({ state, code }) => state === 'pending' && code === undefined);
    awaySince = isPending ? undefined : (awaySince ?? performance.now());
    if (awaySince !== undefined && performance.now() - awaySince > maxAwayMs) break;
    await delay(pollMs, undefined, { signal });
    progress = await client.progress(prefix, begun.removal);
    const line = `${formatCount(progress.removed)} objects removed; ${countStates(progress)}`;
    // A removal that has ended is in the table.
    if (progress.state !== 'done' && line !== said) report(line);
    said = line;
  }
  return progress;
}

function countStates({ shards }: RemovalProgress): string {
  const counts = Map.groupBy(shards, ({ state }) => state);
  return [...counts].map(([state, same]) => `${same.length} of ${shards.length} shards ${state}`).join(', ');
}

function describeRemoval({ removed, bytes, shards }: RemovalProgress): string {
  const rows = shards.map(({ shard, state, code }) => [shard, state, code ?? '']);
  return `${formatTable([['shard', 'state', ''], ...rows])}\n\n${formatCount(removed)} objects, ${formatBytes(bytes)} removed`;
}

function reportIncomplete(verb: string, isComplete: boolean, errorTerminal: CommandContext['errorTerminal']): number {
  if (isComplete) return exitStatuses.success;
  const ofTotals = verb === 'ls' ? '' : ', or the data set of some objects is not known or lies only partly under the prefix';
  errorTerminal.print(`kura ${verb}: the result is not complete: a shard does not answer or counts its files${ofTotals}`);
  return exitStatuses.failure;
}
