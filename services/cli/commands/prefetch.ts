/** `kura prefetch`: a job of the server that fetches all objects of a prefix from their origin. */
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { formatBytes, formatCount } from '../../shared/format.ts';
import type { ObjectResponse } from '../client/object-client.ts';
import { problemText } from '../client/problem-text.ts';
import { startProgress } from '../output/progress.ts';
import { keyOfEncoded, keyOfFile } from '../transfer/file-key.ts';
import { resolveName } from '../transfer/file-name.ts';
import { orUsageError, UsageError } from '../usage-error.ts';
import { type CommandContext, exitStatuses, type RunAction, reportTo } from './command-context.ts';
import { type Connection, connect, type ServerOptions, withServerOptions } from './connection.ts';

interface PrefetchOptions extends ServerOptions {
  readonly keys?: string;
  readonly detach?: boolean;
  readonly follow?: string;
  readonly stop?: string;
}

/** What the command reads of the progress that the origin service returns. */
interface JobProgress {
  readonly id: string;
  readonly state: 'running' | 'done' | 'stopped' | 'failed';
  readonly reason?: string;
  readonly listing: boolean;
  readonly accepted: number;
  readonly rejected: number;
  readonly dropped: number;
  readonly objects: number;
  readonly bytes: number;
  readonly present: number;
  readonly failures: number;
  readonly failuresByReason: Readonly<Record<string, number>>;
  readonly failedKeys: readonly { readonly key: string; readonly reason: string }[];
  readonly rejectedKeys: readonly string[];
}

const pollMs = 1_000;
const hints: Readonly<Record<string, string>> = {
  'no-origin': 'kura prefetch works below the prefix of an origin; ask your operator for the origins in ConfigMap kura-origins',
  'no-such-path': 'this server has no prefetch jobs; its operator can add the component origin',
  'no-list': 'name the keys with --keys FILE',
  forbidden: 'a prefetch job needs GET and FILL over the whole prefix',
  'shard-unavailable': 'the origin service does not respond; try again later',
  'no-such-job': 'start it again without --follow and --stop',
};

export function addPrefetchCommand(program: Command, context: CommandContext, run: RunAction): void {
  withServerOptions(program.command('prefetch'))
    .description('let the server fetch all objects of a prefix from their origin, and wait; skip objects that are in the cache')
    .argument('<prefix>', 'prefix of the keys, such as vision/imagenet')
    .option('--keys <file>', 'file with one name per line, each below the prefix; without it, the origin lists its objects')
    .option('--detach', 'start the job and do not wait')
    .addOption(new Option('--follow <id>', 'wait for a job that runs').conflicts(['keys', 'detach']))
    .addOption(new Option('--stop <id>', 'stop a job').conflicts(['keys', 'detach', 'follow']))
    .addHelpText(
      'after',
      '\nExample: kura prefetch vision/imagenet\nExit status: 0 all objects are in the cache, 1 some are not, or the request failed.',
    )
    .action((prefix: string, options: PrefetchOptions) =>
      run(async () => {
        const connection = connect(options, context, { firstKey: prefix });
        try {
          return await prefetch({ connection, prefix: `${connection.key(prefix.replace(/\/+$/, ''))}/`, options, context });
        } finally {
          await connection.client.close();
        }
      }),
    );
}

interface Call {
  readonly connection: Connection;
  /** A key that ends with a slash. */
  readonly prefix: string;
  readonly options: PrefetchOptions;
  readonly context: CommandContext;
}

async function prefetch(call: Call): Promise<number> {
  const { options, context } = call;
  const { terminal, command, signal } = context;
  const print = options.json ? () => undefined : terminal.print;
  if (options.stop !== undefined) {
    report(await send(call, 'DELETE', options.stop), call);
    return exitStatuses.success;
  }
  const started = options.follow === undefined ? await start(call) : await send(call, 'GET', options.follow);
  const again = repeatable(command);
  const howTo = [`Follow with: ${again} --follow ${started.id}`, `Stop with: ${again} --stop ${started.id}`];
  if (options.detach) {
    if (options.json) terminal.print(JSON.stringify(started));
    for (const line of [`prefetch: job ${started.id} runs`, ...howTo]) print(line);
    return exitStatuses.success;
  }
  try {
    return finish(await follow(started, call), call);
  } catch (error) {
    if (signal.aborted) for (const line of ['prefetch: interrupted; the job continues', ...howTo]) context.errorTerminal.print(line);
    throw error;
  }
}

async function start(call: Call): Promise<JobProgress> {
  const { keys } = call.options;
  if (keys === undefined) return await send(call, 'POST');
  const body = Buffer.from(await readKeys(keys, call), 'latin1');
  return await send(call, 'POST', undefined, body);
}

/** One key a line. */
async function readKeys(file: string, { connection, prefix, options, context }: Call): Promise<string> {
  const name = resolveName(context.workingDirectory, context.bytesOf(file));
  // One character per byte, because a name need not be UTF-8.
  const lines = (await orUsageError(readFile(name, 'latin1'))).split('\n').map((line) => line.replace(/\r$/, ''));
  const keys = lines.flatMap((line, index) => {
    if (line === '') return [];
    const typed = line.replace(/^\/+/, '');
    const base = connection.prefix === '' ? '' : `${connection.prefix}/`;
    const raw = options.raw ? keyOfEncoded(typed) : '';
    const key = options.raw ? raw && base + raw : keyOfFile(base, Buffer.from(typed, 'latin1'));
    if (key?.startsWith(prefix)) return [key];
    throw new UsageError(`${file}, line ${index + 1}: ${Buffer.from(line, 'latin1')} is not below ${prefix}`);
  });
  if (keys.length === 0) throw new UsageError(`${file} contains no names`);
  return keys.join('\n');
}

/** Waits for the end of a job. */
async function follow(started: JobProgress, call: Call): Promise<JobProgress> {
  const { connection, options, context } = call;
  let now = started;
  const progress = startProgress({
    label: 'prefetch',
    total: totalOf(now),
    done: doneOf(now),
    waitReason: () => connection.client.waitReason || (now.listing ? 'the origin lists' : ''),
    terminal: options.json ? context.errorTerminal : context.terminal,
  });
  try {
    while (now.state === 'running') {
      await delay(pollMs, undefined, { signal: context.signal });
      now = await send(call, 'GET', now.id);
      progress.update(doneOf(now), totalOf(now));
    }
    return now;
  } finally {
    progress.stop();
  }
}

function report(job: JobProgress, { prefix, options, context: { terminal } }: Call): void {
  if (options.json) terminal.print(JSON.stringify(job));
  else for (const line of describe(job, prefix)) terminal.print(line);
}

/** Reports a job that has ended. Returns success if every object is in the cache. */
function finish(job: JobProgress, call: Call): number {
  const { errorTerminal, command } = call.context;
  report(job, call);
  if (job.dropped > 0) errorTerminal.print('The job had no room for the last names of the list. Start another job with them.');
  if (job.state !== 'done') errorTerminal.print(`Continue with: ${repeatable(command, { withKeys: true })}`);
  return job.state === 'done' && job.failures + job.rejected + job.dropped === 0 ? exitStatuses.success : exitStatuses.failure;
}

function describe(job: JobProgress, prefix: string): string[] {
  const { state, reason, accepted, rejected, dropped, objects, bytes, present, failures } = job;
  const counts = [
    `${formatCount(present)} already in the cache`,
    `${formatCount(objects)} fetched, ${formatBytes(bytes)}`,
    `${formatCount(failures)} failures`,
    ...(rejected > 0 ? [`${formatCount(rejected)} rejected`] : []),
    ...(dropped > 0 ? [`${formatCount(dropped)} dropped`] : []),
  ];
  const reasons = Object.entries(job.failuresByReason).map(([name, count]) => `${name} ${formatCount(count)}`);
  return [
    `prefetch: ${state}: ${formatCount(accepted)} objects of ${prefix}: ${counts.join(', ')}${reason === undefined ? '' : `; ${reason}`}`,
    ...(reasons.length > 0 ? [`failures: ${reasons.join(', ')}`] : []),
    ...job.failedKeys.map(({ key, reason: why }) => `failure: ${key}: ${why}`),
    ...job.rejectedKeys.map((key) => `rejected: ${key}`),
  ];
}

async function send(
  { connection, prefix, options, context }: Call,
  method: 'POST' | 'GET' | 'DELETE',
  id?: string,
  body?: Buffer,
): Promise<JobProgress> {
  const response = await connection.client.request(method, prefix + (id === undefined ? '' : `?id=${encodeURIComponent(id)}`), {
    route: '/prefetch/',
    mayRetryStatus: method === 'GET',
    ...(body === undefined ? {} : { body: () => Readable.from([body]), length: body.length }),
    signal: context.signal,
    report: context.errorTerminal.isTerminal ? undefined : reportTo(context.errorTerminal, 'prefetch'),
  });
  const text = await response.body.text();
  if (response.status === 200 || response.status === 202) return JSON.parse(text) as JobProgress;
  throw new Error(`prefetch ${prefix}: ${refusal(response, text, { isFollowed: method === 'GET' && options.follow === undefined })}`);
}

function refusal({ status }: ObjectResponse, text: string, { isFollowed }: { isFollowed: boolean }): string {
  const problem = problemText(status, text);
  const [, code = ''] = /^\d+ ([a-z-]+)/.exec(problem) ?? [];
  const hint = code === 'no-such-job' && isFollowed ? 'repeat the command; it skips objects that are in the cache' : hints[code];
  return hint === undefined ? problem : `${problem}\n${hint}`;
}

function doneOf({ objects, present, failures, bytes }: JobProgress): { objects: number; bytes: number } {
  return { objects: objects + present + failures, bytes };
}

/** The objects that are left are as large as those before, as far as the command can know. */
function totalOf(job: JobProgress): { objects: number; bytes: number } {
  const { objects, bytes } = doneOf(job);
  const total = Math.max(1, job.accepted);
  return { objects: total, bytes: objects === 0 ? 0 : (bytes / objects) * total };
}

/** The command that the user typed, without the options that start or end a job. */
function repeatable(command: string, { withKeys = false }: { withKeys?: boolean } = {}): string {
  const names = withKeys ? 'follow|stop' : 'follow|stop|keys';
  const option = new RegExp(` --(?:${names})(?: |=)(?:'(?:[^']|'\\\\'')*'|\\S+)`, 'g');
  return command.replace(option, '').replace(/ --(?:detach|json)(?= |$)/g, '');
}
