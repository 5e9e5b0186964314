/** `kura put`, `get`, `stat` and `rm`: one object. */
import { createReadStream } from 'node:fs';
import { stat as statFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { formatBytes } from '../../shared/format.ts';
import type { ObjectResponse } from '../client/object-client.ts';
import { problemText } from '../client/problem-text.ts';
import { startProgress } from '../output/progress.ts';
import { download } from '../transfer/download.ts';
import { type FileName, resolveName } from '../transfer/file-name.ts';
import { meter } from '../transfer/meter.ts';
import { orUsageError, UsageError } from '../usage-error.ts';
import { type CommandContext, exitStatuses, type RunAction, reportTo } from './command-context.ts';
import { type Connection, connect, type ServerOptions, withDirectOption, withServerOptions } from './connection.ts';
import { type RemoveOptions, removePrefix, withPrefix } from './datasets.ts';

type ObjectAction = (connection: Connection) => Promise<number>;

export function addObjectCommands(program: Command, context: CommandContext, run: RunAction): void {
  const withConnection = (options: ServerOptions, keyText: string, action: ObjectAction): Promise<void> =>
    run(async () => {
      const connection = connect(options, context, { firstKey: keyText });
      try {
        return await action(connection);
      } finally {
        await connection.client.close();
      }
    });
  const removeKeys = (keys: readonly string[], options: RemoveOptions): Promise<void> =>
    options.yes === true || options.removal !== undefined
      ? run(() => Promise.reject(new UsageError('--yes and --removal need -r')))
      : withConnection(options, keys[0] as string, (connection) => remove(connection, context, { keys, ...options }));
  withDirectOption(withServerOptions(program.command('put')))
    .description('store a file, or standard input (-), as an object')
    .argument('<file>', 'file to store, or - for standard input')
    .argument('<key>', 'name of the object, such as vision/a.jpg; a name that ends in / gets the name of the file')
    .addHelpText('after', '\nExamples: kura put model.pt vision/model.pt\n          tar c data | kura put - vision/data.tar')
    .action((file: string, key: string, options: ServerOptions) =>
      withConnection(options, key, (connection) => put(connection, context, { file, key, ...options })),
    );
  withDirectOption(withServerOptions(program.command('get')))
    .description('write an object to standard output or to a file')
    .argument('<key>', 'name of the object')
    .option('-o, --output <file>', 'file to write; it appears when the object is complete, and a repeated command continues FILE.part')
    .addHelpText(
      'after',
      '\nExample: kura get vision/model.pt -o model.pt\nExit status: 0 success, 1 the request failed, 3 the object does not exist.',
    )
    .action((key: string, options: ServerOptions & { output?: string }) =>
      withConnection(options, key, (connection) => get(connection, context, { key, ...options })),
    );
  withServerOptions(program.command('stat'))
    .description('show the size, type, ETag and shard of an object')
    .argument('<key>', 'name of the object')
    .addHelpText('after', '\nExit status: 0 success, 1 the request failed, 3 the object does not exist.')
    .action((key: string, options: ServerOptions) =>
      withConnection(options, key, (connection) => stat(connection, context, { key, ...options })),
    );
  withServerOptions(program.command('rm'))
    .description('remove objects, or everything under a prefix')
    .argument('<key...>', 'names of the objects; with -r, one prefix')
    .option('-r, --recursive', 'remove everything under the prefix from all shards, and report each shard as done, pending or away')
    .option('-y, --yes', 'with -r: do not ask')
    .option('--removal <id>', 'with -r: follow a removal that was begun before')
    .addHelpText('after', '\nExit status: 0 success, 1 a request failed or a shard is not done, 3 an object does not exist.')
    .action((keys: string[], options: RemoveOptions & { recursive?: boolean }) =>
      options.recursive === true ? run(() => removeOnePrefix(keys, options, context)) : removeKeys(keys, options),
    );
}

async function removeOnePrefix(prefixes: readonly string[], options: RemoveOptions, context: CommandContext): Promise<number> {
  const [prefix, ...others] = prefixes as [string];
  if (others.length > 0) throw new UsageError('with -r, name one prefix');
  // A script can pass a variable that is not set.
  if (prefix === '') throw new UsageError('the prefix is empty; name a prefix, or / for everything');
  return await withPrefix(prefix, options, context, (on) => removePrefix(on, context, options));
}

async function put(
  { client, keyFor }: Connection,
  { workingDirectory, stdin, terminal, errorTerminal, signal, bytesOf, command }: CommandContext,
  { file, key: typed, json = false }: { file: string; key: string; json?: boolean },
): Promise<number> {
  const source = file === '-' ? undefined : await regularFile(resolveName(workingDirectory, bytesOf(file)));
  if (source === undefined && typed.endsWith('/')) throw new UsageError(`${typed} ends in a slash, but standard input has no name to add`);
  const key = keyFor(source?.path ?? '', typed);
  const total = source === undefined ? undefined : { objects: 0, bytes: source.size };
  const progress = startProgress({ label: 'put', total, waitReason: () => client.waitReason, terminal: errorTerminal });
  const report = reportTo(errorTerminal, 'put');
  let sent = 0;
  const counted = (body: Readable): Readable =>
    meter(body, (bytes) => {
      sent = bytes;
      progress.update({ objects: 0, bytes });
    });
  const response = await client
    .request('PUT', key, {
      // Standard input can be read only once.
      body: source === undefined ? counted(stdin) : () => counted(createReadStream(source.path)),
      ...(source === undefined ? {} : { length: source.size }),
      signal,
      // The bar shows it on a terminal.
      report: errorTerminal.isTerminal ? undefined : report,
    })
    .finally(() => {
      progress.stop();
      // An open input that nothing reads would keep the process.
      stdin.destroy();
    })
    .catch((error: unknown) => {
      if (signal.aborted) report(`interrupted: ${formatBytes(sent)}${source === undefined ? '' : ` of ${formatBytes(source.size)}`} sent`);
      if (signal.aborted && source !== undefined) errorTerminal.print(`Repeat with: ${command}`);
      throw error;
    });
  const problem = await response.body.text();
  if (response.status !== 201) return reportFailure(errorTerminal, { verb: 'put', key, response, problem });
  const { etag } = response.headers;
  const isKept = response.headers['x-kura-stored'] !== 'no';
  if (json) terminal.print(JSON.stringify({ key, bytes: sent, etag: etag ?? null, stored: isKept }));
  else
    terminal.print(
      isKept
        ? `stored ${key}, ${formatBytes(sent)}`
        : `not stored: the shard accepted ${key} but did not keep it (no space, or no use for it)`,
    );
  return exitStatuses.success;
}

async function get(
  { client, key: keyOf }: Connection,
  { workingDirectory, terminal, errorTerminal, signal, bytesOf, command }: CommandContext,
  { key: typed, output, json = false }: { key: string; output?: string; json?: boolean },
): Promise<number> {
  const key = keyOf(typed);
  if (json && output === undefined) throw new UsageError('--json requires --output, because the object itself goes to standard output');
  const report = reportTo(errorTerminal, 'get');
  if (output === undefined) {
    const response = await client.request('GET', key, { signal, report });
    if (response.status !== 200) return reportFailure(errorTerminal, { verb: 'get', key, response, problem: await response.body.text() });
    await pipeline(response.body, terminal.out, { signal, end: false });
    return exitStatuses.success;
  }
  const file = resolveName(workingDirectory, bytesOf(output));
  const result = await download({ client, key, file, terminal: errorTerminal, report, signal }).catch((error: unknown) => {
    if (signal.aborted) errorTerminal.print(`Resume with: ${command}`);
    throw error;
  });
  const { response } = result;
  if (result.kind === 'rejected') return reportFailure(errorTerminal, { verb: 'get', key, response, problem: await response.body.text() });
  const { bytes, continuedFrom } = result;
  if (json) terminal.print(JSON.stringify({ key, bytes, continuedFrom, file: String(file), ...describe(response) }));
  else terminal.print(`${file}, ${formatBytes(bytes)}${continuedFrom === 0 ? '' : `, continued from ${formatBytes(continuedFrom)}`}`);
  return exitStatuses.success;
}

async function stat(
  { client, key: keyOf }: Connection,
  { terminal, errorTerminal, signal }: CommandContext,
  { key: text, json = false }: { key: string; json?: boolean },
): Promise<number> {
  const key = keyOf(text);
  const response = await client.request('HEAD', key, { signal, report: reportTo(errorTerminal, 'stat') });
  await response.body.dump();
  if (response.status !== 200) return reportFailure(errorTerminal, { verb: 'stat', key, response, problem: '' });
  const bytes = Number(response.headers['content-length']);
  const { etag, type, shard } = describe(response);
  if (json) terminal.print(JSON.stringify({ key, bytes, etag, type, shard }));
  else {
    const size = `${formatBytes(bytes)} (${bytes} bytes)`;
    terminal.print(`${key}\n  size  ${size}\n  type  ${type ?? '–'}\n  etag  ${etag}\n  shard ${shard}`);
  }
  return exitStatuses.success;
}

async function remove(
  { client, key: keyOf }: Connection,
  { terminal, errorTerminal, signal }: CommandContext,
  { keys, json = false }: { keys: readonly string[]; json?: boolean },
): Promise<number> {
  let worst: number = exitStatuses.success;
  for (const key of keys.map(keyOf)) {
    const response = await client.request('DELETE', key, { signal, report: reportTo(errorTerminal, 'rm') });
    const problem = await response.body.text();
    if (json) terminal.print(JSON.stringify({ key, removed: response.status === 204, status: response.status }));
    if (response.status === 204) {
      if (!json) terminal.print(`removed ${key}`);
    } else {
      const status = reportFailure(errorTerminal, { verb: 'rm', key, response, problem });
      worst = worst === exitStatuses.failure ? worst : status;
    }
  }
  return worst;
}

function describe({ headers }: ObjectResponse): { etag: string | null; type: string | null; shard: string | null } {
  const text = (name: string): string | null => (headers[name] === undefined ? null : String(headers[name]));
  return { etag: text('etag'), type: text('content-type'), shard: text('x-kura-shard') };
}

interface Failure {
  readonly verb: string;
  readonly key: string;
  readonly response: ObjectResponse;
  readonly problem: string;
}

function reportFailure(
  errorTerminal: CommandContext['errorTerminal'],
  { verb, key, response: { status, headers }, problem }: Failure,
): number {
  if (status === 404) {
    errorTerminal.print(`kura ${verb}: object ${key} does not exist`);
    return exitStatuses.miss;
  }
  const shard = headers['x-kura-shard'];
  errorTerminal.print(`kura ${verb} ${key}: ${problemText(status, problem)}${shard === undefined ? '' : ` (shard ${shard})`}`);
  return exitStatuses.failure;
}

async function regularFile(file: FileName): Promise<{ path: FileName; size: number }> {
  const status = await orUsageError(statFile(file));
  if (!status.isFile()) throw new UsageError(`${file} is not a file`);
  return { path: file, size: status.size };
}
