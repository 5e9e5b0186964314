/** `kura status` and `kura top`: what the shards store and how much they serve. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { formatBytes, formatDuration, formatPercent } from '../../shared/format.ts';
import { readConsole } from '../client/console-page.ts';
import { namespacesOf, readShards, type ShardNumbers, type ShardReading, type ShardSource } from '../client/shard-numbers.ts';
import { formatTable } from '../output/table.ts';
import { UsageError } from '../usage-error.ts';
import { type CommandContext, count, exitStatuses, type RunAction } from './command-context.ts';
import { readLocal } from './connection.ts';

interface StatusOptions {
  readonly local?: string;
  readonly metrics?: readonly string[];
  readonly console?: string;
  readonly json?: boolean;
}

interface TopOptions extends StatusOptions {
  readonly interval: number;
  readonly times?: number;
}

const clearScreen = '\x1b[H\x1b[J';

export function addStatusCommands(program: Command, context: CommandContext, run: RunAction): void {
  const withSources = (command: Command): Command =>
    command
      .option('--local <file>', 'local.json of a local system (default: .kura/local.json in the clone)')
      .option('--console <url>', 'status page of a console, such as http://127.0.0.1:18200 (KURA_CONSOLE)')
      .option('--metrics <url...>', 'metrics pages of other shards, such as http://10.0.0.7:7100/metrics')
      .option('--json', 'print the result as JSON');
  withSources(program.command('status'))
    .description('show what each shard stores and has served since its start')
    .addHelpText('after', '\nExit status: 0 success, 1 a shard does not respond or does not serve, or there is no shard.')
    .action((options: StatusOptions) => run(async () => printStatus(reader(options, context), options, context)));
  withSources(program.command('top'))
    .description('show the current request rates of each shard, repeatedly')
    .option('--interval <seconds>', 'time between two updates', count({ max: 3_600 }), 2)
    .option('--times <n>', 'number of updates (default: until Ctrl-C)', count({ max: 1_000_000 }))
    .action((options: TopOptions) => run(async () => printTop(reader(options, context), options, context)));
}

type ReadAll = () => Promise<ShardReading>;

/** The shards that the user names, or all shards as the console knows them. Without an answer of the local console, asks the shards. */
function reader({ metrics, console, local }: StatusOptions, { workingDirectory, environment }: CommandContext): ReadAll {
  if (metrics !== undefined) return () => readNow(metrics.map(namedShard));
  const named = console ?? (local === undefined ? environment.KURA_CONSOLE : undefined);
  if (named !== undefined) return () => readConsole(named);
  const { consoleUrl, shards } = readLocal(local, workingDirectory);
  return () => readConsole(consoleUrl).catch(() => readNow(shards));
}

async function readNow(sources: readonly ShardSource[]): Promise<ShardReading> {
  const atMs = Date.now();
  return { shards: await readShards(sources), atMs };
}

function namedShard(url: string): ShardSource {
  if (!URL.canParse(url))
    throw new UsageError(`--metrics is ${JSON.stringify(url)}; it must be a URL such as http://10.0.0.7:7100/metrics`);
  return { name: new URL(url).host, metricsUrl: url };
}

export async function printStatus(
  read: ReadAll,
  options: { readonly json?: boolean },
  { terminal }: Pick<CommandContext, 'terminal'>,
): Promise<number> {
  const { shards } = await read();
  if (options.json) terminal.print(JSON.stringify(shards));
  else terminal.print(describe(shards));
  return shards.length > 0 && shards.every(({ numbers }) => numbers?.serving) ? exitStatuses.success : exitStatuses.failure;
}

function describe(shards: readonly ShardNumbers[]): string {
  const head = ['shard', 'state', 'objects', 'used', 'limit', 'full', 'hit ratio', 'evicted', 'oldest kept'];
  const rows = shards.map(({ name, numbers }) => {
    if (numbers === undefined) return [name, 'no response', '', '', '', '', '', '', ''];
    const { serving, objects, usedBytes, limitBytes, hits, misses, evicted, victimIdleSeconds } = numbers;
    return [
      name,
      serving ? 'serving' : 'out of service',
      String(objects),
      formatBytes(usedBytes),
      formatBytes(limitBytes),
      formatPercent(usedBytes / limitBytes),
      ratio(hits, misses),
      String(evicted),
      // The object evicted last had been idle this long, so everything used since then is still stored.
      evicted === 0 ? '–' : formatDuration(victimIdleSeconds),
    ];
  });
  const known = shards.flatMap(({ numbers }) => (numbers === undefined ? [] : [numbers]));
  const sum = (name: 'objects' | 'usedBytes' | 'limitBytes' | 'hits' | 'misses' | 'evicted'): number =>
    known.reduce((total, each) => total + each[name], 0);
  const [used, limit] = [sum('usedBytes'), sum('limitBytes')];
  const total = [
    `${known.length} of ${shards.length}`,
    '',
    String(sum('objects')),
    formatBytes(used),
    formatBytes(limit),
    formatPercent(limit === 0 ? 0 : used / limit),
    ratio(sum('hits'), sum('misses')),
    String(sum('evicted')),
    '',
  ];
  return `${formatTable([head, ...rows, total])}${describeNamespaces(shards)}`;
}

/** The namespaces with the most bytes are shown. */
const maxShownNamespaces = 10;

function describeNamespaces(shards: readonly ShardNumbers[]): string {
  const namespaces = namespacesOf(shards);
  if (namespaces.length === 0) return '';
  const rows = namespaces
    .slice(0, maxShownNamespaces)
    .map(({ namespace, objects, bytes }) => [namespace, String(objects), formatBytes(bytes)]);
  return `\n\n${formatTable([['namespace', 'objects', 'stored'], ...rows])}`;
}

export async function printTop(
  read: ReadAll,
  options: Pick<TopOptions, 'interval' | 'times' | 'json'>,
  { terminal, signal }: Pick<CommandContext, 'terminal' | 'signal'>,
): Promise<number> {
  let before = await read();
  for (let time = 0; time < (options.times ?? Number.POSITIVE_INFINITY) && !signal.aborted; ) {
    await delay(options.interval * 1000, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) break;
    const { shards: now, atMs } = await read();
    const seconds = (atMs - before.atMs) / 1000;
    // The console has not asked the shards again.
    if (seconds <= 0) continue;
    time += 1;
    // The list can change between two reads.
    const earlier = new Map(before.shards.map((shard) => [shard.name, shard]));
    const rates = now.map((shard) => ({ name: shard.name, rates: ratesBetween(earlier.get(shard.name), shard, seconds) }));
    before = { shards: now, atMs };
    if (options.json) terminal.print(JSON.stringify(rates));
    else terminal.print(`${terminal.isTerminal ? clearScreen : ''}${describeRates(rates)}${describeNamespaces(now)}`);
  }
  return exitStatuses.success;
}

/** The numbers that only grow while a shard runs. */
const counters = ['hits', 'misses', 'stored', 'failed', 'sentBytes', 'receivedBytes', 'evicted'] as const;
type Rates = Readonly<Record<(typeof counters)[number] | 'full', number>> & {
  /** The histogram bound within which 99 % of the GETs ended; undefined if there were no GETs. */
  readonly withinSeconds: string | undefined;
};

/** Rates per second. Undefined if a shard did not respond both times, or restarted in between. */
function ratesBetween(before: ShardNumbers | undefined, now: ShardNumbers, seconds: number): Rates | undefined {
  const [from, to] = [before?.numbers, now.numbers];
  if (from === undefined || to === undefined || to.sentBytes < from.sentBytes || to.receivedBytes < from.receivedBytes) return undefined;
  const rates = counters.map((name) => [name, (to[name] - from[name]) / seconds]);
  const withinSeconds = boundOf99Percent(from.getTimes, to.getTimes);
  return { ...Object.fromEntries(rates), full: to.usedBytes / to.limitBytes, withinSeconds } as Rates;
}

type Times = NonNullable<ShardNumbers['numbers']>['getTimes'];

function boundOf99Percent(from: Times, to: Times): string | undefined {
  const since = to.map(([bound, count], index) => [bound, count - (from[index]?.[1] ?? 0)] as const);
  const all = since.at(-1)?.[1] ?? 0;
  return all === 0 ? undefined : since.find(([, count]) => count >= 0.99 * all)?.[0];
}

function describeRates(shards: readonly { name: string; rates: Rates | undefined }[]): string {
  const head = ['shard', 'GET/s', 'hit ratio', '99 % within', 'out/s', 'PUT/s', 'in/s', 'evicted/s', 'failed/s', 'full'];
  const rows = shards.map(({ name, rates }) => {
    if (rates === undefined) return [name, 'no response', '', '', '', '', '', '', '', ''];
    const { hits, misses, stored, failed, sentBytes, receivedBytes, evicted, full, withinSeconds } = rates;
    const numbers = [
      (hits + misses).toFixed(0),
      ratio(hits, misses),
      formatBound(withinSeconds),
      formatBytes(sentBytes),
      stored.toFixed(0),
      formatBytes(receivedBytes),
    ];
    return [name, ...numbers, evicted.toFixed(0), failed.toFixed(0), formatPercent(full)];
  });
  return formatTable([head, ...rows]);
}

function formatBound(seconds: string | undefined): string {
  if (seconds === undefined) return '–';
  return seconds === '+Inf' ? 'over 10 s' : `${Number((Number(seconds) * 1000).toPrecision(3))} ms`;
}

function ratio(hits: number, misses: number): string {
  return hits + misses === 0 ? '–' : formatPercent(hits / (hits + misses));
}
